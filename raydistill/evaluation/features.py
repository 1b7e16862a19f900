"""Frozen features of encoders."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from raydistill.training.memory import in_parts, lost_device, release

CPU_ROWS = 128  # images at a time; with more, a CPU spends up to a third of its time on fresh memory
K = TypeVar("K", bound=Hashable)


def embed(encoder: nn.Module, batches: Iterable[Tensor], device: torch.device | str, *, keep: bool = False) -> Tensor:
    """Compute features (N, D), float32, in eval mode: batch-norm statistics are used, not moved.

    The mode of every submodule is restored.

    Args:
        encoder: the network.
        batches: views (B, 3, S, S).
        device: where the network is.
        keep: whether the features stay there; else they come to the CPU.

    Raises:
        ValueError: there is no batch.
    """
    found = embed_all({0: encoder}, batches, device, keep=keep)[0]
    if isinstance(found, Exception):
        raise found
    return found


def embed_all(
    encoders: Mapping[K, nn.Module], batches: Iterable[Tensor], device: torch.device | str, *, keep: bool = True
) -> dict[K, Tensor | Exception]:
    """Compute features of several encoders from the same batches; one that fails has its exception instead.

    A batch that memory does not hold goes through in halves.

    Args:
        encoders: the networks by name.
        batches: views (B, 3, S, S). What they raise is raised.
        device: where the networks are.
        keep: whether the features stay there, where k-NN looks at them; else they go to the CPU batch by batch.

    Raises:
        ValueError: there is no batch.
    """
    modes = [(module, module.training) for encoder in encoders.values() for module in encoder.modules()]
    rows: dict[K, list[Tensor]] = {key: [] for key in encoders}
    failed: dict[K, Exception] = {}
    try:
        for encoder in encoders.values():
            encoder.eval()
        with torch.inference_mode():
            for batch in batches:
                seen = batch.to(device)
                parts = seen.split(CPU_ROWS) if seen.device.type == "cpu" else (seen,)
                for key, encoder in encoders.items():
                    if key not in failed:
                        try:
                            for part in parts:
                                found = in_parts(encoder, part).float()
                                rows[key].append(found if keep else found.cpu())
                        except Exception as error:
                            if lost_device(error):
                                raise
                            failed[key], rows[key] = error, []
                            release(error, seen.device)  # what it held is needed by the others
    finally:
        for module, training in modes:
            module.training = training
    if not failed and not all(rows.values()):
        raise ValueError("no images to embed")
    return {key: failed[key] if key in failed else torch.cat(rows[key]) for key in encoders}

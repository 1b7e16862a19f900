"""Frozen features of an encoder."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def embed(encoder: nn.Module, batches: Iterable[Tensor], device: torch.device | str) -> Tensor:
    """(N, D) float32 features on the CPU, in eval mode: batch-norm statistics are used, not moved.

    The mode of every submodule is restored. Raises: ValueError if there is no batch.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.inference_mode():
            rows = [encoder(batch.to(device)).float().cpu() for batch in batches]
    finally:
        for module, training in modes:
            module.training = training
    if not rows:
        raise ValueError("no images to embed")
    return torch.cat(rows)

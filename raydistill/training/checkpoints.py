"""Checkpoints: tensors in safetensors, the rest in JSON, a checksum over both. Nothing is ever unpickled.

`epoch-0003.safetensors` holds the state, `epoch-0003.json` its size and SHA-256. Both are written to a
temporary name, synced and renamed, the JSON last: a state without its JSON was never finished.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from raydistill.storage import StoragePath, reason
from raydistill.training.checkpoint_files import CheckpointError, finished, write_atomically

log = logging.getLogger(__name__)
FORMAT = "raydistill-1"


# docs/architecture.md#checkpoints-without-pickles
def write_checkpoint(directory: StoragePath, epoch: int, state: dict[str, Any], *, keep: int = 2) -> StoragePath:
    """Write a checkpoint atomically.

    Args:
        directory: of the run.
        epoch: of the checkpoint.
        state: nested dicts and lists of tensors, numbers, strings.
        keep: number of newest checkpoints that stay.

    Raises:
        CheckpointError: the storage refuses.
    """
    tensors: dict[str, Tensor] = {}
    tree = _flatten(state, tensors, "")
    payload = save(tensors, metadata={"format": FORMAT, "tree": json.dumps(tree)})
    manifest = {"epoch": epoch, "bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    path = directory / f"epoch-{epoch:05d}.safetensors"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(path, payload)
        write_atomically(path.with_suffix(".json"), json.dumps(manifest).encode())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({reason(error)})") from error
    with suppress(OSError):
        for old in finished(directory)[keep:]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
    return path


def read_checkpoint(path: StoragePath) -> dict[str, Any]:
    """The state in one checkpoint file. Raises CheckpointError if it is damaged or of another kind."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        payload = path.read_bytes()
        expected = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a finished checkpoint ({error})") from None
    if hashlib.sha256(payload).hexdigest() != expected:
        raise CheckpointError(
            f"{path}: checksum mismatch, {len(payload)} bytes read of {manifest.get('bytes')} written"
        )
    try:
        tensors = load(payload)
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        tree = json.loads(header["__metadata__"]["tree"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this software ({error})") from None
    return _unflatten(tree, tensors)


def latest_checkpoint(directory: StoragePath) -> dict[str, Any] | None:
    """The newest state that is whole; a damaged one is named in a warning and the one before it is read.

    Raises CheckpointError when there are checkpoints and none is whole.
    """
    paths = finished(directory)
    for path in paths:
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; falling back to the checkpoint before it", error)
    if paths:
        raise CheckpointError(f"{directory}: none of the {len(paths)} checkpoints is whole")
    return None


def _flatten(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _flatten(item, tensors, f"{name}/{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(item, tensors, f"{name}/{i}") for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"{name}: a checkpoint cannot hold {type(value).__name__}")


def _unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    if kind == "list":
        return [_unflatten(item, tensors) for item in content]
    return content


def to_device(value: Any, device: torch.device) -> Any:
    """A state with every tensor on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [to_device(item, device) for item in value]
    return value

"""Checkpoints: tensors in safetensors, the rest in JSON, a checksum over both. Nothing is ever unpickled.

`epoch-0003.safetensors` holds the tensors, `epoch-0003.json` all else, and the size and SHA-256. Both are written to a
temporary name, synced and renamed, the JSON last: tensors without their JSON were never finished.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
_AT_A_TIME = 2  # checkpoints in memory, each of them as large as a learner's state


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
    return PendingCheckpoint(directory, epoch, state).finish(state, keep=keep)


# docs/architecture.md#checkpoints-without-pickles
class PendingCheckpoint:
    """A checkpoint whose tensors a thread writes, while the caller does what leaves them alone, such as scoring.

    Args:
        directory, epoch, state: as of `write_checkpoint`. Only the tensors count.
    """

    def __init__(self, directory: StoragePath, epoch: int, state: dict[str, Any]) -> None:
        self._directory, self._epoch = directory, epoch
        self._path = directory / f"epoch-{epoch:05d}.safetensors"
        self._written = _writers().submit(self._write_tensors, state)

    def finish(self, state: dict[str, Any], *, keep: int = 2) -> StoragePath:
        """Wait for the tensors, and write what else the state holds by now. Only then is the checkpoint one.

        Args:
            state: has no other tensors than before.
            keep: number of newest checkpoints that stay.

        Raises:
            CheckpointError: the storage refuses.
        """
        tree = _flatten(state, lambda name, tensor: None, "")
        try:
            size, digest = self._written.result()
            digest.update(json.dumps(tree).encode())
            manifest = {"epoch": self._epoch, "bytes": size, "sha256": digest.hexdigest(), "tree": tree}
            write_atomically(self._path.with_suffix(".json"), json.dumps(manifest).encode())
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written ({reason(error)})") from error
        with suppress(OSError):
            for old in finished(self._directory)[keep:]:
                old.with_suffix(".json").unlink(missing_ok=True)
                old.unlink(missing_ok=True)
        return self._path

    def abandon(self) -> None:
        """Wait for the tensors, and remove them: this epoch has no checkpoint."""
        with suppress(Exception):
            self._written.result()
            self._path.unlink(missing_ok=True)

    def _write_tensors(self, state: dict[str, Any]) -> tuple[int, Any]:
        tensors: dict[str, Tensor] = {}
        _flatten(state, lambda name, value: tensors.update({name: value.detach().cpu().contiguous().clone()}), "")
        payload = save(tensors, metadata={"format": FORMAT})
        self._directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, payload)
        return len(payload), hashlib.sha256(payload)


@functools.cache
def _writers() -> ThreadPoolExecutor:
    # One thread of torch in each, as for images.
    return ThreadPoolExecutor(_AT_A_TIME, "checkpoints", initializer=torch.set_num_threads, initargs=(1,))


def read_checkpoint(path: StoragePath) -> dict[str, Any]:
    """The state in one checkpoint file. Raises CheckpointError if it is damaged or of another kind."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        payload = path.read_bytes()
        expected = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a finished checkpoint ({error})") from None
    digest = hashlib.sha256(payload)
    if "tree" in manifest:  # version 0.1 kept it in the header of the tensors
        digest.update(json.dumps(manifest["tree"]).encode())
    if digest.hexdigest() != expected:
        raise CheckpointError(
            f"{path}: checksum mismatch, {len(payload)} bytes read of {manifest.get('bytes')} written"
        )
    try:
        tensors = load(payload)
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        tree = manifest["tree"] if "tree" in manifest else json.loads(header["__metadata__"]["tree"])
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


def _flatten(value: Any, take: Callable[[str, Tensor], None], name: str) -> Any:
    if isinstance(value, Tensor):
        take(name, value)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _flatten(item, take, f"{name}/{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(item, take, f"{name}/{i}") for i, item in enumerate(value)]}
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

"""Checkpoints as files: which are finished, and copies of them. Free of torch."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from raydistill.errors import RaydistillError
from raydistill.storage import Remote, StoragePath, reason

# docs/architecture.md#checkpoint-files-below-records
LEFT_OUT = "left-out.txt"  # which tasks could not score a run, and why
PICTURES = "pictures"  # folder of a run, with what the tasks that score it have drawn
TRAJECTORY = "trajectory"  # folder of a run, with what `eval.trajectory` keeps: a file for each scored epoch
WINNER = "winner.txt"  # where there are no links, this holds the name of a sweep's best trial


class CheckpointError(RaydistillError, RuntimeError):
    """A checkpoint cannot be used; the message names the file."""


def winner_of(sweep: StoragePath) -> StoragePath | None:
    """The folder of the best trial of a sweep that has ended; None of another's."""
    if (sweep / WINNER).exists():
        return sweep / "trials" / Path((sweep / WINNER).read_text().strip()).name
    if not isinstance(sweep, Path):
        return None
    link = sweep / "winner"
    if link.is_symlink():
        return sweep / "trials" / link.readlink().name
    return link if link.is_dir() else None


def newest(directory: StoragePath) -> StoragePath | None:
    """The newest finished checkpoint of a directory; not read, so it may be damaged."""
    return next(iter(finished(directory)), None)


def of_epoch(directory: StoragePath, epoch: int) -> StoragePath | None:
    """The finished checkpoint of an epoch; not read, so it may be damaged."""
    return next((state for state in finished(directory) if epoch_of(state) == epoch), None)


def epoch_of(state: StoragePath) -> int:
    return int(state.stem.rpartition("-")[2])


def adopt(source: StoragePath, epoch: int, directory: StoragePath) -> None:
    """Replace all checkpoints of `directory` by the one of an epoch in `source`.

    Args:
        source: where the checkpoint is.
        epoch: which one.
        directory: where it goes.

    Raises:
        CheckpointError: there is none, or the storage refuses.
    """
    state = of_epoch(source, epoch)
    if state is None:
        raise CheckpointError(f"{source}: there is no checkpoint of epoch {epoch} to copy")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in (state, state.with_suffix(".json")):
            write_atomically(directory / part.name, part.read_bytes())
        for old in finished(directory):
            if old.name != state.name:
                old.with_suffix(".json").unlink(missing_ok=True)
                old.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{directory}: the checkpoint cannot be copied ({reason(error)})") from error


def write_atomically(path: StoragePath, payload: bytes) -> None:
    """Readers see the old file or the new one, never a part, also after a power cut. Raises OSError."""
    if isinstance(path, Remote):
        path.write_bytes(payload)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def finished(directory: StoragePath) -> list[StoragePath]:
    """The checkpoints of a directory that were written to their end, newest first; not read."""
    return sorted((p.with_suffix(".safetensors") for p in directory.glob("epoch-*.json")), reverse=True)

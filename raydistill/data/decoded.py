"""Decoded images on disk, memory-mapped: all processes of a machine share one copy, and later sweeps find it again."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
import torch
from torch import Tensor

from raydistill.data.pool import pool
from raydistill.locks import LockHeldError, hold_lock
from raydistill.storage import cache_folder

if TYPE_CHECKING:
    from raydistill.data.images import Raw

PIXELS, INDEX = "pixels.u8", "index.npy"
SPARE_BYTES = 2**30  # of the disk, left to others
IDLE_S = 24 * 3600.0  # what was opened since then stays, since somebody may be using it
SAMPLE = 32  # images that say how large all are, and whether they are the same ones
_VERSION = 1  # of what `decode` makes of a file
_CHUNK = 64
_LONGEST_S = 24 * 3600.0  # that another process may take to write the same images
_PROGRESS_S = 10.0
log = logging.getLogger(__name__)
Decode = Callable[[int], Tensor | None]


# docs/architecture.md#images-that-do-not-fit-in-memory
class DecodedFile:
    """Images of a folder written by `kept_on_disk`, by their position. Raises OSError, ValueError if it is damaged."""

    def __init__(self, folder: Path) -> None:
        self._index = np.load(folder / INDEX, allow_pickle=False)
        count = int(self._index[:, 1:].prod(1).sum() * 3)
        if (folder / PIXELS).stat().st_size != count:
            raise ValueError(f"{folder / PIXELS} has not {count} bytes")
        with warnings.catch_warnings():
            # torch has no tensors that are read-only. A mapping that may be written to counts against the memory.
            warnings.filterwarnings("ignore", message=".*not writable")
            self._pixels = torch.from_numpy(np.memmap(folder / PIXELS, np.uint8, mode="r"))

    def image(self, position: int) -> Tensor | None:
        """(3, H, W) uint8 in the file itself, not to be changed; None for an image that could not be read."""
        start, height, width = self._index[position].tolist()
        return self._pixels[start : start + 3 * height * width].view(3, height, width) if height else None


def kept_on_disk(raw: Raw, rows: np.ndarray, decode: Decode, budget: float) -> DecodedFile | None:
    """Open the decoded images of some rows, written first where they are not there yet.

    Images that nobody opened for a day make room, those that were used longest ago first. None for sources that cannot
    say whether their files have changed, and where there is too little room, which the log says.

    Args:
        raw: the source.
        rows: of it.
        decode: gives the image at a position of the rows, None if it cannot be read.
        budget: bytes for all images that this machine keeps decoded.

    Raises:
        BadImageError: as `decode` does.
    """
    if raw.state is None:
        return None
    sample = np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(int)).tolist()
    images = [image for image in pool().map(decode, sample) if image is not None]
    if not images:
        return None
    need = round(float(np.mean([image.nbytes for image in images])) * len(rows))
    try:
        folder = cache_folder() / "decoded" / _key(raw, rows, raw.state(rows), images)
        with hold_lock(folder.with_suffix(".lock"), _LONGEST_S):
            for attempt in ("first", "last"):
                if not folder.exists() and not _write(folder, decode, len(rows), need, budget):
                    return None
                try:
                    os.utime(folder)
                    return DecodedFile(folder)
                except (OSError, ValueError, EOFError) as error:
                    log.warning("%s is damaged: %s", folder, error)
                    _remove(folder)
                    if attempt == "last":
                        return None
    except (OSError, LockHeldError) as error:
        log.warning("images are decoded in every epoch: %s", error)
    return None


def _key(raw: Raw, rows: np.ndarray, state: bytes, images: list[Tensor]) -> str:
    """Hash all that the decoded pixels depend on, and some of the pixels: a file may change and look the same."""
    levels = raw.levels() if raw.levels else None
    digest = hashlib.sha256(repr((_VERSION, PIL.__version__, raw.resize, levels, len(rows))).encode())
    digest.update(state)
    for image in images:
        digest.update(image.contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _write(folder: Path, decode: Decode, count: int, need: int, budget: float) -> bool:
    """Write all images, so that the folder is there whole or not at all. Returns whether there is room."""
    with _reserved(folder, need, budget) as passing:
        if passing is None:
            return False
        index = np.zeros((count, 3), np.int64)
        place, said = 0, time.monotonic()
        with (passing / PIXELS).open("r+b") as file:
            for first in range(0, count, _CHUNK):
                chunk = range(first, min(first + _CHUNK, count))
                for position, image in zip(chunk, pool().map(decode, chunk), strict=True):
                    if image is not None:
                        index[position] = (place, *image.shape[1:])
                        place += file.write(image.contiguous().numpy().data)
                if time.monotonic() - said > _PROGRESS_S:
                    said = time.monotonic()
                    log.info("decoded %d of %d images to %s", chunk.stop, count, folder)
            file.truncate(place)
            file.flush()
            os.fsync(file.fileno())
        np.save(passing / INDEX, index)
        passing.rename(folder)
    return True


@contextmanager
def _reserved(folder: Path, need: int, budget: float) -> Iterator[Path | None]:
    """A hidden folder with as large an empty file as will be written, so that others see what is taken; else None."""
    passing = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}")
    with hold_lock(folder.with_name(".room.lock"), _LONGEST_S):
        room = _make_room(folder.parent, need, budget)
        if room:
            _remove(passing)
            passing.mkdir()
            with (passing / PIXELS).open("wb") as file:
                file.truncate(need)
    try:
        yield passing if room else None
    finally:
        _remove(passing)


def _make_room(folder: Path, need: int, budget: float) -> bool:
    """Remove images that nobody opened for a day until there is room. Returns whether there is."""
    aged = time.time() - IDLE_S
    known = {each: each.stat().st_mtime for each in folder.iterdir() if each.is_dir()}
    taken = sum(map(_bytes, known))
    idle = sorted((each for each, opened in known.items() if opened < aged), key=known.__getitem__)
    while True:
        free = shutil.disk_usage(folder).free - SPARE_BYTES
        if need <= min(budget - taken, free):
            return True
        if not idle:
            break
        taken -= _bytes(idle[0])
        _remove(idle.pop(0))
    limit = f"{free / 2**30:.1f} GiB of free disk" if need > free else f"data.disk_cache_gib={budget / 2**30:.3g}"
    log.warning(
        "images are decoded in every epoch: decoded they take %.1f GiB, over %s, of which %.1f GiB are in use",
        *(need / 2**30, limit, taken / 2**30),
    )
    return False


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _remove(folder: Path) -> None:
    """Remove a folder, if it is there; one that is removed by half must not be taken for a whole one."""
    gone = folder.with_name(f".gone.{socket.gethostname()}.{os.getpid()}.{folder.name.lstrip('.')}")
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)

"""Decoded images on disk, memory-mapped: all processes of a machine share one copy, and later sweeps find it again."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from raydistill.data.pool import pool
from raydistill.locks import LockHeldError, hold_lock
from raydistill.storage import cache_folder

if TYPE_CHECKING:
    from raydistill.data.images import Raw

PIXELS, INDEX = "pixels.u8", "index.npy"
SPARE_BYTES = 2**30  # of the disk, left to others
_VERSION = 1  # of what `decode` makes of a file
_CHUNK = 64
_SAMPLE = 64
_LONGEST_S = 24 * 3600.0  # that another process may take to write the same images
_PROGRESS_S = 10.0
log = logging.getLogger(__name__)


# docs/architecture.md#images-that-do-not-fit-in-memory
class DecodedFile:
    """Images of a folder written by `kept_on_disk`, by their position."""

    def __init__(self, folder: Path) -> None:
        self._index = np.load(folder / INDEX, allow_pickle=False)
        # Private pages: torch has no tensors that cannot be written to.
        self._pixels = np.memmap(folder / PIXELS, np.uint8, mode="c")

    def image(self, position: int) -> Tensor | None:
        """(3, H, W) uint8 in the file itself; None for an image that could not be read."""
        start, height, width = self._index[position].tolist()
        if not height:
            return None
        return torch.from_numpy(self._pixels[start : start + 3 * height * width]).view(3, height, width)


def kept_on_disk(
    raw: Raw, rows: np.ndarray, decode: Callable[[int], Tensor | None], budget: float
) -> DecodedFile | None:
    """Open the decoded images of some rows, written first where they are not there yet.

    Data sets that were not used for longest make room. None where there is too little all the same, and for sources
    that cannot say whether their files have changed; the log says so.

    Args:
        raw: the source.
        rows: of it.
        decode: gives the image at a position of the rows, None if it cannot be read.
        budget: bytes for all data sets of this machine together.

    Raises:
        BadImageError: as `decode` does.
    """
    if raw.state is None:
        return None
    folder = cache_folder() / "decoded" / _key(raw, rows)
    try:
        with hold_lock(folder.with_suffix(".lock"), _LONGEST_S):
            if not (folder / INDEX).exists():
                need = _estimate(decode, len(rows))
                if not _make_room(folder.parent, need, budget):
                    return None
                _write(folder, decode, len(rows))
            os.utime(folder)
            return DecodedFile(folder)
    except (OSError, LockHeldError) as error:
        log.warning("images are decoded in every epoch: %s", error)
        return None


def _key(raw: Raw, rows: np.ndarray) -> str:
    """Hash all that the decoded pixels depend on."""
    assert raw.state is not None
    digest = hashlib.sha256(repr((_VERSION, raw.resize, raw.levels() if raw.levels else None)).encode())
    digest.update(raw.state(rows))
    for row in rows.tolist():
        digest.update(raw.name(row).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:32]


def _estimate(decode: Callable[[int], Tensor | None], count: int) -> int:
    """Bytes of all images, from a sample of them."""
    sample = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(int)).tolist()
    sizes = [image.nbytes for image in pool().map(decode, sample) if image is not None]
    return round(np.mean(sizes) * count) if sizes else 0


def _make_room(folder: Path, need: int, budget: float) -> bool:
    """Remove the data sets that were used longest ago until there is room. Returns whether there is."""
    aged = time.time() - _LONGEST_S
    whole = (each for each in folder.iterdir() if each.is_dir() and not _is_written_now(each, aged))
    known = sorted(whole, key=lambda each: each.stat().st_mtime)
    sizes = {each: sum(file.stat().st_size for file in each.iterdir()) for each in known}
    free = shutil.disk_usage(folder).free - SPARE_BYTES
    room, limit = min(budget, sum(sizes.values()) + free), ""
    if need > room:
        limit = f"data.disk_cache_gib={budget / 2**30:.3g}" if need > budget else f"{free / 2**30:.1f} GiB of free disk"
        log.warning("images are decoded in every epoch: decoded they take %.1f GiB, over %s", need / 2**30, limit)
        return False
    for each in known:
        if need <= min(budget - sum(sizes.values()), free):
            break
        free += sizes.pop(each)
        shutil.rmtree(each, ignore_errors=True)
    return True


def _is_written_now(folder: Path, aged: float) -> bool:
    """Return whether another process may be writing a folder; one that was left behind counts as old after a day."""
    return folder.name.startswith(".") and folder.stat().st_mtime > aged


def _write(folder: Path, decode: Callable[[int], Tensor | None], count: int) -> None:
    """Write all images, so that the folder is there whole or not at all."""
    passing = folder.with_name(f".{folder.name}")
    shutil.rmtree(passing, ignore_errors=True)
    passing.mkdir(parents=True)
    index = np.zeros((count, 3), np.int64)
    place, said = 0, time.monotonic()
    try:
        with (passing / PIXELS).open("wb") as file:
            for first in range(0, count, _CHUNK):
                chunk = range(first, min(first + _CHUNK, count))
                for position, image in zip(chunk, pool().map(decode, chunk), strict=True):
                    if image is not None:
                        index[position] = (place, *image.shape[1:])
                        place += file.write(image.contiguous().numpy().data)
                if time.monotonic() - said > _PROGRESS_S:
                    said = time.monotonic()
                    log.info("decoded %d of %d images to %s", chunk.stop, count, folder)
        np.save(passing / INDEX, index)
        passing.rename(folder)
    finally:
        with suppress(OSError):
            shutil.rmtree(passing, ignore_errors=True)

"""Images that occur twice: in what trains, and in what validates or tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydistill.data.images import BadImageError, Raw, decode
from raydistill.data.pool import pool

Part = tuple[Raw, np.ndarray]


def find_copies(part: Part, others: Sequence[Part]) -> NDArray[np.bool_]:
    """Find which rows of a part occur in others: (N,) bool.

    Files are compared byte by byte, through SHA-256, if their lengths agree. Where a source has no files (the digits,
    torchvision), decoded pixels are compared instead. An image that was cropped, scaled or stored anew is not found.

    Args:
        part: a source and its rows (N,).
        others: alike.
    """
    by_bytes = all(raw.encoded is not None for raw, _ in (part, *others))
    measure, digest = (_lengths, _digest_of_bytes) if by_bytes else (_extents, _digest_of_pixels)
    raw, rows = part
    own, theirs = measure(*part), [measure(*other) for other in others]
    sizes = np.intersect1d(own, np.concatenate([*theirs, np.empty(0, dtype=np.int64)]))
    sizes = sizes[sizes >= 0]
    known = {
        digest(other, row)
        for (other, places), lengths in zip(others, theirs, strict=True)
        for row in places[np.isin(lengths, sizes)].tolist()
    }
    candidates = np.flatnonzero(np.isin(own, sizes))
    found = np.zeros(len(rows), dtype=bool)
    digests = pool().map(lambda row: digest(raw, row), rows[candidates].tolist())
    found[candidates] = [each is not None and each in known for each in digests]
    return found


def _lengths(raw: Raw, rows: np.ndarray) -> NDArray[np.int64]:
    assert raw.encoded is not None
    return np.array(raw.encoded.lengths()[rows], dtype=np.int64)


def _digest_of_bytes(raw: Raw, row: int) -> bytes | None:
    assert raw.encoded is not None
    return hashlib.sha256(raw.encoded.read(row)).digest()


def _extents(raw: Raw, rows: np.ndarray) -> NDArray[np.int64]:
    """A number for each pair of sides, whichever is the longer; -1 for an image that cannot be opened."""

    def extent(row: int) -> int:
        try:
            with raw.open(row) as image:
                return min(image.size) << 32 | max(image.size)
        except Exception:  # decoders raise nearly anything on hostile bytes
            return -1

    return np.fromiter(pool().map(extent, rows.tolist()), dtype=np.int64, count=len(rows))


def _digest_of_pixels(raw: Raw, row: int) -> bytes | None:
    try:
        image = decode(raw, row)
    except BadImageError:
        return None
    return hashlib.sha256(repr(tuple(image.shape)).encode() + image.numpy().tobytes()).digest()

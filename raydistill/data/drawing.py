"""Draws of images, by class, that say which are held out or kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """`total` places shared in proportion to `counts` (C,), by largest remainder; (C,) whole numbers."""
    places, remainder = np.divmod(counts * total, max(1, counts.sum()))
    places[np.argsort(-remainder, kind="stable")[: total - places.sum()]] += 1
    return places


def draw(labels: Tensor | None, count: int, seed: Sequence[int], fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Split range(count) at random into (kept, taken), both sorted, stratified when labelled.

    A class of two images or more has at least one on each side; a single image is kept.

    Args:
        labels: (count,) classes; None counts all images as one class.
        count: number of images.
        seed: of the draw.
        fraction: about this share is taken.
    """
    groups = _groups(labels, count)
    counts = np.bincount(groups)
    places = apportion(counts, round(fraction * count))
    return _take(groups, places.clip(np.minimum(1, counts // 2), np.maximum(0, counts - 1)), seed)


def draw_by_name(
    labels: Tensor | None, names: Sequence[str], seed: Sequence[int], fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Split range(len(names)) into (kept, taken), both sorted, where an image's name alone says on which side it is.

    So images stay where they are while others come. Of each class about the share is taken, at least half as many and
    at most one and a half times, rounded outwards; a class of two images or more has at least one on each side.

    Args:
        labels: (N,) classes; None counts all images as one class.
        names: of the images, N.
        seed: of the split.
        fraction: about this share is taken.
    """
    groups = _groups(labels, len(names))
    salt = repr(list(seed)).encode()
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogateescape"), key=salt, digest_size=8) for name in names)
    place = np.fromiter((int.from_bytes(each.digest(), "big") / 2**64 for each in digests), float, len(names))
    order = np.lexsort((place, groups))
    counts = np.bincount(groups)
    wanted = np.bincount(groups, place < fraction, len(counts)).astype(int)
    least = np.maximum(np.minimum(1, counts // 2), np.floor(0.5 * fraction * counts))
    most = np.maximum(least, np.minimum(counts - 1, np.ceil(1.5 * fraction * counts)))
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = rank < np.repeat(wanted.clip(least, most), counts)
    return np.sort(order[~taken]), np.sort(order[taken])


def limited(labels: Tensor | None, count: int, seed: Sequence[int], limit: int | None) -> np.ndarray:
    """Draw at most `limit` of range(count): sorted, at random, stratified when labelled.

    Args:
        labels: (count,) classes, or None.
        count: number of images.
        seed: of the draw.
        limit: the most images; None keeps all.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    groups = _groups(labels, count)
    return _take(groups, apportion(np.bincount(groups), limit), seed)[1]


def _groups(labels: Tensor | None, count: int) -> np.ndarray:
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    return np.unique(labels.numpy(), return_inverse=True)[1]


def _take(groups: np.ndarray, places: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    shuffled = np.random.default_rng(list(seed)).permutation(len(groups))
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]  # by class, at random inside each
    counts = np.bincount(groups, minlength=len(places))
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = rank < np.repeat(places, counts)
    return np.sort(order[~taken]), np.sort(order[taken])

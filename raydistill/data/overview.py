"""The words that say how a data set was understood: counts, classes, sizes, and what looks wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from raydistill.data.copies import find_copies
from raydistill.data.images import LABELS, BadImageError, Images
from raydistill.data.pool import pool
from raydistill.data.sources import Dataset

SAMPLE = 256  # images that are decoded to see their sizes, contrast and damage
MOST_COMPARED = 200_000  # images whose files are compared between the splits
LEAST_CONTRAST = 8  # grey levels between an image's darkest and brightest pixel
_SHOWN = 10  # classes


@dataclass(frozen=True)
class Sample:
    """Some images of a split, decoded: sizes (N, 2) in pixels, and the names of those that look wrong."""

    sizes: np.ndarray
    flat: list[str]
    broken: list[str]


def overview(dataset: Dataset, count: int = SAMPLE) -> list[str]:
    """Lines that say what was understood, ready to be printed.

    Compares the files of the splits where there are not too many.

    Args:
        dataset: the images.
        count: how many of them are decoded.
    """
    lines = _splits(dataset)
    sample = look_at(dataset.train, count)
    if len(sample.sizes):
        lines.append(f"sizes: {_sizes(sample.sizes)}; trained at {dataset.image_size} px as {dataset.kind}")
    notes = (*dataset.notes, *_decoded_again(dataset.train, sample.sizes))
    lines += [note if note.startswith(LABELS) else f"note: {note}" for note in notes]
    lines += [f"warning: {text}" for text in warnings_of(sample, copied_between(dataset))]
    return lines


def look_at(images: Images, count: int) -> Sample:
    """Decode some images of a split, the same ones each time."""
    chosen = sorted(random.Random(0).sample(range(len(images)), min(count, len(images))))
    sizes, flat, broken = [], [], []
    for index, found in zip(chosen, pool().map(images.look, chosen), strict=True):
        if isinstance(found, BadImageError):
            broken.append(str(found))
            continue
        sizes.append(found.shape[-2:])
        if int(found.max()) - int(found.min()) < LEAST_CONTRAST:
            flat.append(images.name(index))
    return Sample(np.array(sizes, dtype=np.int64).reshape(-1, 2), flat, broken)


def copied_between(dataset: Dataset) -> list[str]:
    """Say how many images of a split are also in another one, by their bytes.

    Sources without files (the digits, torchvision) are not compared; nor are too many images.
    """
    parts = {name: images.part for name, images in dataset.splits.items()}
    total = sum(len(rows) for _, rows in parts.values())
    if any(raw.encoded is None for raw, _ in parts.values()):
        return []
    if total > MOST_COMPARED:
        return [f"{total} images are too many to look for copies between the splits"]
    found = []
    for name, others in (("train", ("val", "test")), ("val", ("test",))):
        copied = np.flatnonzero(find_copies(parts[name], [parts[other] for other in others]))
        if len(copied):
            first = dataset.splits[name].name(int(copied[0]))
            these = f"1 image of {name} is" if len(copied) == 1 else f"{len(copied)} images of {name} are"
            found.append(f"{these} also in {' or '.join(others)}, such as {first}")
    return found


def warnings_of(sample: Sample, copied: list[str]) -> Iterator[str]:
    """Say what looks wrong.

    Args:
        sample: of the training images.
        copied: images that stand in two splits.
    """
    yield from copied
    looked = len(sample.sizes) + len(sample.broken)
    if sample.broken:
        first = "" if len(sample.broken) == 1 else "the first of them "
        yield (
            f"{len(sample.broken)} of {looked} images that were looked at cannot be read: {first}{sample.broken[0]}; "
            "--set data.on_bad_image=skip passes over such images"
        )
    if sample.flat:
        yield f"{len(sample.flat)} of {looked} images have no contrast, such as {sample.flat[0]}"


def _decoded_again(images: Images, sizes: np.ndarray) -> Iterator[str]:
    """Say that images are decoded in every epoch, and how to keep them.

    Args:
        images: the training split.
        sizes: (N, 2) of some of them.
    """
    need = 3 * float(sizes.prod(1).mean()) * len(images) if len(sizes) else 0.0
    if need > images.room:
        yield (
            f"decoded, the training images take {need / 2**30:.2g} GiB, more than data.cache_gib, so every "
            f"epoch decodes them; --set data.disk_cache_gib={math.ceil(need / 2**30 * 1.5)} keeps them on disk"
        )


def _splits(dataset: Dataset) -> list[str]:
    rows = [(name, str(len(images)), _classes(images)) for name, images in dataset.splits.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name:{widths[0]}}  {count:>{widths[1]}} images  {classes}" for name, count, classes in rows]


def _classes(images: Images) -> str:
    if images.labels is None:
        return "no labels"
    known = images.labels[images.labels >= 0]
    counts = torch.bincount(known, minlength=len(images.classes)).tolist()
    shown = ", ".join(f"{name} {count}" for name, count in list(zip(images.classes, counts, strict=True))[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more, of {min(counts)} to {max(counts)}" if len(counts) > _SHOWN else ""
    without = len(images) - len(known)
    return f"{len(counts)} classes: {shown}{more}{f'; {without} without a label' if without else ''}"


def _sizes(sizes: np.ndarray) -> str:
    if (sizes == sizes[0]).all():
        return f"{sizes[0][1]} x {sizes[0][0]}"
    area = sizes.prod(1)
    least, middle, most = (sizes[np.argsort(area, kind="stable")[place]] for place in (0, len(area) // 2, -1))
    named = [f"{width} x {height}" for height, width in (least, most, middle)]
    return f"{named[0]} to {named[1]}, in the middle {named[2]} ({len(sizes)} looked at)"

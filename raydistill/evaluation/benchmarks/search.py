"""Search by features: features of image files, rankings by cosine, and their average precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from raydistill.data.images import BadImageError
from raydistill.data.pool import pool
from raydistill.data.views.augment import normalization
from raydistill.errors import one_line
from raydistill.evaluation.features import embed
from raydistill.evaluation.tasks.base import Subject, TaskError
from raydistill.evaluation.tasks.names import TOY

BATCH = 16  # images at a time; a ViT with small patches has thousands of tokens in each
READ_AHEAD = 8 * BATCH  # images that are decoded at a time, and grouped by size
Shape = Callable[[Image.Image], Image.Image]


@contextmanager
def benchmark(subject: Subject, draw: Callable[[Path], Path]) -> Iterator[Path]:
    """Yield the folder of a task's benchmark; that of `toy` is drawn first. Raises: TaskError where there is none."""
    if subject.source == TOY:
        with TemporaryDirectory(prefix="raydistill-") as made:
            yield draw(subject.folder or Path(made))
        return
    folder = Path(subject.source).expanduser()
    if not folder.is_dir():
        raise TaskError(f"{subject.source}: no such folder; name the benchmark's folder on this machine, or {TOY}")
    yield folder


def describe(network: nn.Module, files: Sequence[Path], shape: Shape, subject: Subject) -> Tensor:
    """Features (N, D) of image files, float32, on the CPU; pixels are normalised as those of the run.

    Args:
        network: images (B, 3, H, W) -> (B, D), on the subject's device.
        files: images in any format that Pillow reads.
        shape: cuts or resizes an image; those of the same size go through the network together.
        subject: whose device and images these are.

    Raises:
        BadImageError: a file cannot be read.
        ValueError: the network does not take images of this size.
    """
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in normalization(subject.dataset.name, subject.dataset.image_size)
    )
    order: list[int] = []

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(files), READ_AHEAD):
            images = list(pool().map(partial(_pixels, shape=shape), files[start : start + READ_AHEAD]))
            for size in sorted({image.shape for image in images}):
                alike = [row for row, image in enumerate(images) if image.shape == size]
                for first in range(0, len(alike), BATCH):
                    rows = alike[first : first + BATCH]
                    order.extend(start + row for row in rows)
                    yield (torch.stack([images[row] for row in rows]) / 255 - mean) / std

    return embed(network, batches(), subject.device)[torch.tensor(order).argsort()]


def _pixels(file: Path, shape: Shape) -> Tensor:
    """An image as (3, H, W), uint8. It is not turned as EXIF says: DINO's evaluations do not turn it either."""
    try:
        with Image.open(file) as image:
            shaped = shape(image.convert("RGB"))
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise BadImageError(f"{file}: unreadable image ({one_line(error)})") from error
    return torch.from_numpy(np.array(shaped)).permute(2, 0, 1)


def patch_of(encoder: nn.Module) -> tuple[int, int]:
    """Height and width of a ViT's patches, which must divide its images; (1, 1) for other networks."""
    patch = getattr(getattr(getattr(encoder, "net", None), "patch_embed", None), "patch_size", 1)
    return (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])


def rankings(queries: Tensor, database: Tensor) -> NDArray[np.int64]:
    """Rank a database (N, D) for each query (Q, D) by cosine: indices (Q, N), the most similar first.

    Raises: TaskError where a feature is not a number.
    """
    if not (queries.isfinite().all() and database.isfinite().all()):
        raise TaskError("the network gives features that are no finite numbers; has its training diverged?")
    similarity = normalize(queries, dim=1) @ normalize(database, dim=1).T
    return similarity.argsort(dim=1, descending=True, stable=True).numpy()


def average_precision(
    ranking: ArrayLike, positives: ArrayLike, junk: ArrayLike = (), *, depth: int | None = None
) -> float:
    """Area under the curve of precision over recall of one ranking, by trapezoids; between 0 and 1.

    A positive that follows r others, j of them positive, adds (j / r + (j + 1) / (r + 1)) / 2 / P, where j / r is 1 for
    r = 0 and P is the number of positives. Source: `compute_ap` of filipradenovic/revisitop, and the same function in
    the evaluation of INRIA Holidays, which DINO's copy detection uses.

    Args:
        ranking: indices, the best first.
        positives: indices that should come first; at least one.
        junk: indices that count as if they were not in the ranking.
        depth: how many of the ranking count; None: all.
    """
    kept = np.asarray(ranking)
    kept = kept[~np.isin(kept, np.asarray(junk, dtype=np.int64))][:depth]
    positives = np.unique(np.asarray(positives, dtype=np.int64))
    ranks = np.flatnonzero(np.isin(kept, positives))
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    after = (found + 1) / (ranks + 1)
    return float((before + after).sum() / 2 / len(positives))


def scene(number: int, width: int, height: int) -> Image.Image:
    """Draw an image of coloured rectangles and ellipses on a coloured ground; each number is another one.

    Args:
        number: of the scene.
        width, height: pixels.
    """
    from PIL import ImageDraw

    rng = np.random.default_rng(number)
    ground = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    image = ground.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for index in range(6):
        left, top = rng.uniform(0, 0.7, 2) * (width, height)
        right, bottom = (left, top) + rng.uniform(0.15, 0.3, 2) * (width, height)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (pen.ellipse if index % 2 else pen.rectangle)((left, top, right, bottom), fill=colour)
    return image


def part(image: Image.Image, share: float) -> Image.Image:
    """Cut the middle out of an image: this share of each side."""
    width, height = image.size
    left, top = (1 - share) / 2 * width, (1 - share) / 2 * height
    return image.crop((round(left), round(top), round(width - left), round(height - top)))

"""Picture of training trajectories in function space (DoGo, figure 5): t-SNE of the checkpoints of several runs.

Fort et al. (arXiv 1912.02757, figure 2) place checkpoints by their predictions on the same images. Predictions of a
classifier share their axes, but features of two self-supervised runs do not: any rotation of them is as good. So a
checkpoint is described here by which images it takes to be alike, the cosines of all pairs of the same images in one
long row. A matrix of cosines holds every pair twice and ones on its diagonal; a row holds each pair once, which
changes no distance but by a common factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from raydistill.data.drawing import limited
from raydistill.evaluation.tasks.alignment import on_sphere
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.tsne import COLORS, DRAW, embedded, legend, panel, perplexity, png
from raydistill.evaluation.trajectory_files import IMAGES

LINES = ("-", "--", ":", "-.")  # of runs of one colour


def trajectory_picture(
    predictions: Mapping[str, Sequence[Tensor]], *, seed: int = 0, groups: Mapping[str, str] | None = None
) -> bytes:
    """PNG of one t-SNE of all checkpoints, with a line through those of each run, from a ring to a filled square.

    Args:
        predictions: by the name of each run, features or predictions (N, D) of its checkpoints in order. All are of
            the same N images in the same order; D may differ.
        seed: of t-SNE, and of the sample of images where there are more than 200.
        groups: what each run belongs to, such as its arm. Runs of a group share a colour and differ in their lines;
            without it every run has a colour of its own.

    Raises:
        TaskError: a run without checkpoints, fewer than three in all, images that differ in number or are fewer than
            three, or numbers that are not finite.
    """
    kept = _sample(predictions, seed)
    rows = torch.stack([similarities(each[kept]) for each in _all(predictions)])
    points = embedded(rows, seed, "checkpoints")
    looks = _looks(list(predictions), groups or {})
    return _drawn(points, {name: len(each) for name, each in predictions.items()}, looks, len(kept))


def similarities(features: Tensor) -> Tensor:
    """Cosines of all pairs of different rows (N, D), each pair once: (N (N - 1) / 2,), float64."""
    rows = on_sphere(features.cpu())
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return (rows @ rows.T)[first, second]


def _all(predictions: Mapping[str, Sequence[Tensor]]) -> Iterator[Tensor]:
    return (each for run in predictions.values() for each in run)


def _sample(predictions: Mapping[str, Sequence[Tensor]], seed: int) -> list[int]:
    """Rows of the images to compare, once everything fits together."""
    counts = set()
    for name, run in predictions.items():
        if not len(run):
            raise TaskError(f"run {name} has no checkpoints; a line needs one or more")
        for number, each in enumerate(run, 1):
            if each.ndim != 2:
                raise TaskError(f"run {name}, checkpoint {number}: shape {tuple(each.shape)}; expected (N, D)")
            if not torch.isfinite(each).all():
                raise TaskError(f"run {name}, checkpoint {number}: features are not finite")
            counts.add(len(each))
    if len(counts) > 1:
        raise TaskError(f"checkpoints of {' and '.join(map(str, sorted(counts)))} images; all need the same images")
    count = counts.pop() if counts else 0
    if count < 3:
        raise TaskError(f"{count} images in {len(predictions)} runs; similarities need 3 images or more")
    return limited(None, count, (seed, DRAW), IMAGES).tolist()


def _looks(names: Sequence[str], groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """Colour and line of each run: by its group and its number in there, or by its number alone."""
    numbers = [(index % len(COLORS), index // len(COLORS)) for index in range(len(names))]
    if groups:
        order = list(dict.fromkeys(groups[name] for name in names))
        own = [groups[name] for name in names]
        numbers = [(order.index(each) % len(COLORS), own[:index].count(each)) for index, each in enumerate(own)]
    return [(COLORS[color], LINES[line % len(LINES)]) for color, line in numbers]


def _drawn(points: np.ndarray, lengths: Mapping[str, int], looks: Sequence[tuple[str, str]], images: int) -> bytes:
    figure, axes = panel(
        f"t-SNE of {len(points)} checkpoints by similarities of {images} images,\n"
        f"perplexity {perplexity(len(points)):.3g}; ring: first, square: last"
    )
    handles, start = [], 0
    for length, (color, style) in zip(lengths.values(), looks, strict=True):
        x, y = points[start : start + length].T
        handles += axes.plot(x, y, style, color=color, linewidth=1.2, marker="o", markersize=3)
        axes.plot(x[:1], y[:1], "o", markersize=9, markerfacecolor="none", markeredgecolor=color)
        axes.plot(x[-1:], y[-1:], "s", markersize=7, color=color)
        start += length
    legend(axes, handles, list(lengths))
    return png(figure)

"""Noise of a search: how exactly validation images tell a score, and how much it varies over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

ACCURACIES = ("val_knn", "val_instance")  # shares of the validation images


def standard_error(
    metric: str, value: float, images: int | None, seeds: Sequence[Sequence[float]] = ()
) -> float | None:
    """Standard error of an accuracy p over n images, sqrt(p (1 - p) / n); None for other scores.

    That is how much p would vary over other validation images. What it varies over seeds comes on top.

    Of a mean over k seeds it is sqrt(max(p (1 - p) / n - s^2, 0) + s^2 / k), with s the standard deviation over seeds.
    If each image is missed by some share of all seeds, and by each seed independently, p (1 - p) / n is the variance
    over images and seeds, and s^2 the part of it that is of the seeds. A mean divides that part alone by k.

    Args:
        metric: which score.
        value: between 0 and 1.
        images: of the validation split; None or 0: not known.
        seeds: the scores of each trial by seed, where each is a mean over several.
    """
    if metric not in ACCURACIES or not images or not 0 <= value <= 1:
        return None
    variance, deviation = value * (1 - value) / images, spread(seeds)
    if deviation is None:
        return math.sqrt(variance)
    return math.sqrt(max(variance - deviation**2, 0) + deviation**2 / max(map(len, seeds)))


def near_best(metric: str, values: Sequence[float], images: int | None, seeds: Sequence[Sequence[float]] = ()) -> int:
    """Return how many scores, the best one first, are within one standard error of the best, itself included.

    Args:
        metric: which score.
        values: best first.
        images: of the validation split; None or 0: not known.
        seeds: as for `standard_error`.
    """
    error = standard_error(metric, values[0], images, seeds) if values else None
    if error is None:
        return len(values[:1])
    return sum(abs(values[0] - value) <= error for value in values)


def spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation over seeds, pooled over configurations; None where none has two seeds.

    Args:
        groups: the scores of each configuration, one a seed.
    """
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return math.sqrt(squares / sum(len(group) - 1 for group in several))


def describe(metric: str, values: Sequence[float], images: int | None, seeds: Sequence[Sequence[float]] = ()) -> str:
    """Say how exact a search's scores are, and how many trials the best one is not told from; empty if unknown.

    Args:
        metric: which score.
        values: those of the trials that were trained to the end, best first.
        images: of the validation split; None or 0: not known.
        seeds: as for `standard_error`.
    """
    error = standard_error(metric, values[0], images, seeds) if values else None
    if error is None:
        return ""
    near, total = near_best(metric, values, images, seeds), len(values)
    rest = "no other trial trained to the end is within one standard error of the best"
    if near > 1:
        rest = f"{near} of {total} trials trained to the end are within one standard error of the best"
    elif total == 1:
        rest = "only one trial was trained to the end, so it is compared with none"
    whose, deviation = f"One run's {metric}", spread(seeds)
    if deviation is not None:
        whose = (
            f"A trial's {metric}, the mean of {max(map(len, seeds))} seeds that vary by {100 * deviation:.1f} points,"
        )
    return f"{whose} has a standard error of {100 * error:.1f} points ({images} validation images); {rest}."

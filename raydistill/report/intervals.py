"""Differences between configurations in words."""

from __future__ import annotations

import math

from raydistill.records.intervals import Difference
from raydistill.report.formatting import factor, unit


def sentence(found: Difference, metric: str, *, maximize: bool = True) -> str:
    """Describe a difference: "better by 1.3 points (95 % interval 0.2 to 2.4, 3 seeds)".

    Args:
        found: the difference.
        metric: which score.
        maximize: whether more is better.
    """
    scale, name = factor(metric), unit(metric)
    digits = 1 if name == "points" else 3

    def shown(value: float, sign: str = "") -> str:
        return f"{round(value * scale, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")

    mean, low, high = found.mean, found.low, found.high
    toward = math.copysign(1, mean)
    word = "equal" if mean == 0 else "better" if (mean > 0) == maximize else "worse"
    size = "" if mean == 0 else f" by {shown(abs(mean))} {name}".rstrip()
    if low is None or high is None:
        return f"{word}{size}; one seed shows no spread"
    if found.clear:
        ends = sorted((low * toward, high * toward))
        return f"{word}{size} (95 % interval {shown(ends[0])} to {shown(ends[1])}, {found.seeds} seeds)"
    size = f"{shown(mean, '+')} {name}".rstrip()
    return f"no difference that {found.seeds} seeds could show ({size}, 95 % interval {shown(low)} to {shown(high)})"

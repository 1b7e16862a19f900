"""Means over seeds, and differences between configurations, with 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values; their standard deviation and the interval need two of them, else None."""

    mean: float
    std: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """One configuration's mean minus another's; its interval needs two seeds of each, else None.

    `paired` by the `seeds` that both were trained with; otherwise `seeds` is the smaller of the two numbers.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    paired: bool

    @property
    def clear(self) -> bool:
        """True where the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate(values: Iterable[float]) -> Estimate:
    """Mean, sample standard deviation, and interval by Student's t. Raises: ValueError for no values."""
    found = list(values)
    if not found:
        raise ValueError("there is no mean of no values")
    mean = statistics.fmean(found)
    if len(found) < 2:
        return Estimate(mean, None, None, None, len(found))
    std = statistics.stdev(found)
    margin = _t(len(found) - 1) * std / math.sqrt(len(found))
    return Estimate(mean, std, mean - margin, mean + margin, len(found))


def difference(ours: Mapping[Hashable, float], theirs: Mapping[Hashable, float]) -> Difference:
    """`ours` minus `theirs`, scores by seed: paired by the seeds that both have, by Welch's t where they have none.

    Raises: ValueError where one of them is empty.
    """
    common = [seed for seed in ours if seed in theirs]
    if common:
        pairs = estimate(ours[seed] - theirs[seed] for seed in common)
        return Difference(pairs.mean, pairs.low, pairs.high, pairs.count, True)
    a, b = estimate(ours.values()), estimate(theirs.values())
    mean, seeds = a.mean - b.mean, min(a.count, b.count)
    if a.std is None or b.std is None:
        return Difference(mean, None, None, seeds, False)
    parts = (a.std**2 / a.count, b.std**2 / b.count)
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(mean, mean, mean, seeds, False)
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / (shares[0] ** 2 / (a.count - 1) + shares[1] ** 2 / (b.count - 1))
    margin = _t(freedom) * error
    return Difference(mean, mean - margin, mean + margin, seeds, False)


def visible(values: Iterable[float]) -> float | None:
    """The true mean whose interval would leave out zero in about four of five such samples; None for a single value.

    (t(0.975) + t(0.8)) std / sqrt(n), t with n - 1 degrees of freedom: the usual approximation of the power of
    Student's t-test.
    """
    found = estimate(values)
    if found.std is None:
        return None
    freedom = found.count - 1
    return (_t(freedom) + _t(freedom, POWER)) * found.std / math.sqrt(found.count)


def _t(freedom: float, share: float = (1 + CONFIDENCE) / 2) -> float:
    """Quantile of Student's t; by default half the width of the interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))

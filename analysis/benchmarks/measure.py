"""Repeated measurements: no figure without repeats, no ratio without its spread, no time that is not positive."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

MIN_REPEATS = 3


class MeasurementError(SystemExit):
    """What was measured says nothing; the message says why, and ends the script."""


class Spread(NamedTuple):
    """A figure, and the least and the most that its repeats allow."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def __truediv__(self, number: float) -> Spread:  # type: ignore[override]
        return Spread(self.value / number, self.low / number, self.high / number)


def in_turn(
    arms: Mapping[str, Callable[[], Any]],
    repeats: int,
    *,
    steps: int = 1,
    settle: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of a step of each arm, the arms in turn; the first turn warms up and is dropped.

    Args:
        arms: what to measure, by name.
        repeats: turns that count.
        steps: of an arm in each turn.
        settle: waits until the device has done what it was asked to do.
        clock: seconds.
    """
    _check_repeats(repeats)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, arm in arms.items():
            settle()
            began = clock()
            for _ in range(steps):
                arm()
            settle()
            if turn:
                seconds[name].append((clock() - began) / steps)
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """The median of repeats, with the least and the most. Raises: MeasurementError for too few, or one below zero."""
    _check_repeats(len(values))
    if min(values) <= 0:
        raise MeasurementError(f"a repeat gave {min(values):.3g}, which is not above zero; give it more work")
    return Spread(statistics.median(values), min(values), max(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The ratio of two medians; its spread is from the least over the most to the most over the least."""
    a, b = spread(over), spread(under)
    return Spread(a.value / b.value, a.low / b.high, a.high / b.low)


def difference(large: Sequence[float], small: Sequence[float]) -> Spread:
    """The difference of two medians; a `Spread` stands for its repeats.

    Raises: MeasurementError where noise is larger than the difference.
    """
    a, b = spread(large), spread(small)
    found = Spread(a.value - b.value, a.low - b.high, a.high - b.low)
    if found.low <= 0:
        raise MeasurementError(
            f"the difference of {a} and {b} is lost in their noise; measure on a machine with less to do, or more work"
        )
    return found


def as_json(figures: Mapping[str, Spread], digits: int = 3) -> dict[str, Any]:
    """Each figure under its name, and its least and most under `NAME_spread`."""
    found: dict[str, Any] = {}
    for name, figure in figures.items():
        found[name] = round(figure.value, digits)
        found[f"{name}_spread"] = [round(figure.low, digits), round(figure.high, digits)]
    return found


def _check_repeats(repeats: int) -> None:
    if repeats < MIN_REPEATS:
        raise MeasurementError(f"{repeats} repeats are too few for a figure; give at least {MIN_REPEATS}")

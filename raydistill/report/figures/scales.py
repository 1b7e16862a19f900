"""Scales: positions of a setting's values on an axis, as numbers, logarithms, or one place for each choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from raydistill.report.figures import labels
from raydistill.report.figures.style import plain
from raydistill.report.formatting import is_number, missing, setting
from raydistill.report.importance import log_scaled
from raydistill.report.load import SweepData

CROWD = 9  # choices that have a label each
MARGIN = 0.06  # of the axis, at each end


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; `choices` are its labels where each value has a place of its own."""

    low: float
    high: float
    logarithmic: bool = False
    choices: tuple[str, ...] = ()

    def place(self, value: Any) -> float:
        """Position of a value on the axis, in the axis's numbers; nan for a missing value."""
        if missing(value):
            return math.nan
        return float(self.choices.index(setting(value))) if self.choices else float(value)

    def share(self, place: float) -> float:
        """Position between the ends, 0 to 1; 0.5 where the ends are equal, nan for nan."""
        if math.isnan(place):
            return math.nan
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, place))
        return 0.5 if high == low else (at - low) / (high - low)

    def ticks(self, most: int = 4) -> list[tuple[float, str]]:
        """Places that have a label; about `most` of them on an axis of numbers."""
        if self.choices:
            every = math.ceil(len(self.choices) / CROWD)
            return [(float(i), self.choices[i]) for i in range(0, len(self.choices), every)]
        if self.high == self.low:
            return [(self.low, setting(self.low))]
        if not self.logarithmic:
            return self._within(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        dense = [self._within(LogLocator(subs=subs, numticks=most + 3)) for subs in ((1, 2, 5), (1, 3))]
        fitting = [ticks for ticks in dense if len(ticks) <= most]
        return fitting[0] if fitting else self._within(LogLocator(numticks=most + 1))

    def _within(self, locator: LogLocator | MaxNLocator) -> list[tuple[float, str]]:
        room = 1e-9 * (self.high - self.low)
        places = locator.tick_values(self.low, self.high)
        return [(float(p), f"{p:g}") for p in places if self.low - room <= p <= self.high + room]

    def labels(self, width: float) -> tuple[list[str], float]:
        """The ticks' labels as they fit an axis of this width in inches, and their slant in degrees."""
        return labels.beside([text for _, text in self.ticks()], width)

    def depth(self, width: float) -> float:
        """Inches that they need below the axis beyond those of one line."""
        return labels.depth(*self.labels(width))

    def draw(self, axes: Axes, width: float) -> None:
        """Scale, limits and ticks of the horizontal axis of a panel that is about so many inches wide."""
        if self.logarithmic:
            axes.set_xscale("log")
            room = (self.high / self.low) ** MARGIN if self.high > self.low else 2
            axes.set_xlim(self.low / room, self.high * room)
        else:
            room = 0.5 if self.choices else (self.high - self.low) * MARGIN or 0.5
            axes.set_xlim(self.low - room, self.high + room)
        shown, slant = self.labels(width)
        look: dict[str, Any] = {"rotation": slant, "ha": "right", "rotation_mode": "anchor"} if slant else {}
        axes.set_xticks([place for place, _ in self.ticks()], list(map(plain, shown)), **look)
        axes.xaxis.set_minor_locator(NullLocator())


def scale_of(sweep: SweepData, path: str) -> Scale:
    """The axis of a searched setting: its whole range as the space gives it, else as the search's trials have it.

    Lists of numbers that span more than 1.5 decades are drawn on a log scale, other lists with a place for each.
    """
    spec = sweep.spec(path)
    found = [value for value in sweep.settings.loc[sweep.role("search"), path].tolist() if not missing(value)]
    ranged = "values" not in spec
    values = [*spec.get("values", []), *(spec[end] for end in ("min", "max") if end in spec), *found]
    if values and all(map(is_number, values)):
        logarithmic = log_scaled(sweep, path)
        if ranged or logarithmic:
            return Scale(float(min(values)), float(max(values)), logarithmic)
        values.sort()
    names = tuple(dict.fromkeys(map(setting, values))) or ("",)
    return Scale(0.0, len(names) - 1.0, choices=names)


def jitter(count: int, width: float) -> np.ndarray:
    """Small offsets (count,), always the same, that keep points of one choice apart."""
    golden = (math.sqrt(5) - 1) / 2
    return (np.arange(count) * golden % 1 - 0.5) * width

"""All searched settings of all trials at once."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydistill.report.figures import style
from raydistill.report.figures.scales import Scale, jitter, scale_of
from raydistill.report.figures.searched import NO_SCORE, NO_SETTING, kind, scores
from raydistill.report.importance import importances
from raydistill.report.load import Sweep
from raydistill.report.wording import axis, short_names

BELOW = -0.13  # where lines pass that have no value of a setting
COLUMN = 1.15  # inches


def parallel_coordinates(sweep: Sweep) -> Figure:
    """A line for each trial through its settings to its score, the settings that matter most nearest to it.

    The darker the better, the winner in red; broken: not trained to the end. Where a condition leaves a setting out
    the line passes below its axis.
    """
    found = scores(sweep)
    paths = _ordered(sweep)
    if found.empty or not paths:
        return style.empty(NO_SCORE if found.empty else NO_SETTING)
    scales = [scale_of(sweep, path) for path in paths]
    scales.append(Scale(float(found.min()), float(found.max())))
    heights, keys = pd.DataFrame(index=found.index), [str(key) for key in found.index]
    for path, scale in zip(paths, scales, strict=False):
        shares = pd.Series([scale.share(scale.place(sweep.setting(key, path))) for key in keys], found.index)
        heights[path] = (shares + jitter(len(shares), 0.03) * bool(scale.choices)).fillna(BELOW)
    heights[""] = found.map(scales[-1].share)
    figure = Figure(figsize=(max(style.WIDTH, COLUMN * len(scales)), 3.7), layout="constrained", facecolor="white")
    axes = figure.subplots()
    _frame(axes, sweep, paths, scales, list((heights == BELOW).any()))
    order = (found.rank(ascending=sweep.maximize) - 1) / max(len(found) - 1, 1)
    colors = colormaps[style.SCORES](style.LIGHTEST + (1 - style.LIGHTEST) * order)
    for (key, line), color in zip(heights.iterrows(), colors, strict=True):
        axes.plot(range(len(scales)), line, **_look(kind(sweep, str(key)), color))
    return figure


def _ordered(sweep: Sweep) -> list[str]:
    """The searched settings, those that matter most last."""
    shares = importances(sweep)
    return sorted(sweep.searched, key=lambda path: shares.get(path, 0.0))


def _look(of: str, color: Any) -> dict[str, Any]:
    """A trial's line."""
    if of == "winner":
        return {"linewidth": 2.4, **style.WINNER}
    if of == "finished":
        return {"linewidth": 1.2, "color": color, "alpha": 0.9, "zorder": 3}
    return {"linewidth": 0.9, "color": color, "alpha": 0.7, "zorder": 2, "linestyle": (0, (3, 2))}


def _frame(axes: Axes, sweep: Sweep, paths: list[str], scales: list[Scale], passed: list[bool]) -> None:
    """Upright axes with their names above and their ticks beside them; `passed`: some line has no value there."""
    names = short_names(sweep.searched)
    titles = [style.plain(names[path]) for path in paths] + [axis(sweep.metric).replace(" accuracy", "\naccuracy")]
    axes.set_axis_off()
    axes.set_xlim(-0.35, len(scales) - 0.65)
    axes.set_ylim(BELOW - 0.14 if any(passed) else -0.06, 1.16)
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for column, (title, scale) in enumerate(zip(titles, scales, strict=True)):
        axes.plot([column, column], [0, 1], color=style.GREY, linewidth=1, zorder=4, solid_capstyle="butt")
        axes.text(
            column, 1.07, title, ha="center", va="bottom", fontsize=style.TEXT, color=style.INK, fontweight="bold"
        )
        last = column == len(scales) - 1
        for place, text in scale.ticks(6):
            axes.text(
                column + (0.05 if last else -0.05), scale.share(place), text, ha="left" if last else "right",
                va="center", fontsize=style.SMALL, color=style.INK, zorder=6, bbox=halo,
            )  # fmt: skip
        if passed[column]:
            axes.text(column, BELOW - 0.05, "not used", ha="center", va="top", fontsize=style.SMALL, color=style.GREY)

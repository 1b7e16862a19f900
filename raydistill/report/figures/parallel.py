"""All searched settings of all trials at once."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydistill.report.figures import labels, style
from raydistill.report.figures.scales import Scale, jitter, scale_of
from raydistill.report.figures.searched import NO_SCORE, NO_SETTING, described, kind, scores
from raydistill.report.formatting import axis, short_names
from raydistill.report.importance import importances
from raydistill.report.load import SweepData

BELOW = -0.13  # where lines pass that have no value of a setting
COLUMN = 1.15  # inches
CROWD, THIN = 60, 0.6  # lines that have their full width, and what is left of it where there are many
BROKEN = (0, (3, 2))
HEAD = style.TEXT * 1.1  # points: bold letters are wider
ROOM = 0.8  # of a column, for its ticks' labels


def parallel_coordinates(sweep: SweepData) -> Figure:
    """A line for each trial through its settings to its score, the settings that matter most nearest to it.

    Of those trained to the end the darker the better, the winner in orange; grey and broken, below them: the others, at
    the last score that they had. Where a condition leaves a setting out the line passes below its axis.
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
    colors = _colors(sweep, found)
    thin = min(1.0, max(THIN, (CROWD / len(found)) ** 0.5))
    for key, line in heights.iterrows():
        drawn = axes.plot(range(len(scales)), line, **_look(kind(sweep, str(key)), colors.get(str(key)), thin))
        style.say(drawn, described(sweep, str(key)))
    return figure


def _ordered(sweep: SweepData) -> list[str]:
    """The searched settings, those that matter most last."""
    shares = importances(sweep)
    return sorted(sweep.searched, key=lambda path: shares.get(path, 0.0))


def _colors(sweep: SweepData, found: pd.Series) -> dict[str, Any]:
    """Colours by rank of the trials trained to the end; scores of earlier epochs do not compare."""
    ended = [key for key in found.index if sweep.trials.outcome[key] == "finished"]
    order = (found[ended].rank(ascending=sweep.maximize) - 1) / max(len(ended) - 1, 1)
    shades = colormaps[style.SCORES](style.LIGHTEST + (1 - style.LIGHTEST) * order)
    return dict(zip(map(str, ended), shades, strict=True))


def _look(of: str, color: Any, thin: float) -> dict[str, Any]:
    """A trial's line; `thin`: the share of its width, but for the winner."""
    if of == "winner":
        return {"linewidth": 2.4, **style.WINNER}
    if of == "finished":
        return {"linewidth": 1.2 * thin, "color": color, "alpha": 0.9, "zorder": 3}
    return {"linewidth": 0.9 * thin, "color": style.FAINT, "alpha": 0.8, "zorder": 2, "linestyle": BROKEN}


def _frame(axes: Axes, sweep: SweepData, paths: list[str], scales: list[Scale], passed: list[bool]) -> None:
    """Upright axes with their names above and their ticks beside them; `passed`: some line has no value there."""
    names = short_names(sweep.searched)
    inches = max(style.WIDTH, COLUMN * len(scales)) / len(scales)
    titles = [labels.broken(names[path], labels.letters(inches, HEAD) - 1) for path in paths]
    titles.append(axis(sweep.metric).replace(" accuracy", "\naccuracy"))
    axes.set_axis_off()
    axes.set_xlim(-0.35, len(scales) - 0.65)
    axes.set_ylim(BELOW - 0.14 if any(passed) else -0.06, 1.16)
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for column, (title, scale) in enumerate(zip(titles, scales, strict=True)):
        axes.plot([column, column], [0, 1], color=style.GREY, linewidth=1, zorder=4, solid_capstyle="butt")
        axes.text(
            column,
            1.07,
            style.plain(title),
            ha="center",
            va="bottom",
            fontsize=style.TEXT,
            color=style.INK,
            fontweight="bold",
        )
        last = column == len(scales) - 1
        for place, text in scale.ticks(6):
            shown = style.plain(labels.broken(text, labels.letters(ROOM * inches)))
            axes.text(
                column + (0.05 if last else -0.05),
                scale.share(place),
                shown,
                ha="left" if last else "right",
                va="center",
                fontsize=style.SMALL,
                color=style.INK,
                zorder=6,
                bbox=halo,
            )
        if passed[column]:
            axes.text(column, BELOW - 0.05, "not used", ha="center", va="top", fontsize=style.SMALL, color=style.GREY)

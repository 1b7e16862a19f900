"""What the search found: scores against settings, and which settings matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raydistill.report.figures import style
from raydistill.report.figures.scales import jitter, scale_of
from raydistill.report.importance import importances, rests_on, why_none
from raydistill.report.load import Sweep
from raydistill.report.wording import axis, factor, label, percent, short_names

NO_SCORE = "No trial of the search has a score yet."
NO_SETTING = "The search varied no setting."
COLUMNS = 4


def importance(sweep: Sweep) -> Figure:
    """A bar for each searched setting: its share of the score's variation among the finished trials."""
    shares = importances(sweep)
    if shares.empty:
        return style.empty(why_none(sweep))
    names = short_names(sweep.searched)
    figure, (axes,) = style.grid_of(1, 1, 0.8 + 0.27 * len(shares))
    ascending = shares.iloc[::-1]
    labels = [style.plain(names[str(path)]) for path in ascending.index]
    axes.barh(labels, ascending * 100, color=style.BLUE, height=0.62)
    for row, share in enumerate(ascending):
        axes.annotate(
            percent(share), (share * 100, row), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=style.SMALL, color=style.INK,
        )  # fmt: skip
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, float(shares.max()) * 112)
    axes.set_xlabel(f"share of the variation of {label(sweep.metric)} (%), over {rests_on(sweep)} finished trials")
    return figure


def slices(sweep: Sweep, paths: Sequence[str] | None = None) -> Figure:
    """The score against each searched setting, or those of `paths`, a panel each.

    Filled: trained to the end; hollow: stopped early or not yet ended, at the last score; a star: the winner.
    """
    chosen = list(sweep.searched if paths is None else paths)
    found = scores(sweep)
    if found.empty or not chosen:
        return style.empty(NO_SCORE if found.empty else NO_SETTING)
    rows = math.ceil(len(chosen) / COLUMNS)
    columns = math.ceil(len(chosen) / rows)
    figure, panels = style.grid_of(rows, columns, 0.6 + 2.0 * rows, sharey=True)
    names = short_names(sweep.searched)
    for panel, path in zip(panels, chosen, strict=False):
        _slice(panel, sweep, path, found)
        panel.set_xlabel(style.plain(names[path]))
    for panel in panels[len(chosen) :]:
        panel.set_visible(False)
    figure.supylabel(axis(sweep.metric), fontsize=style.TEXT, color=style.INK)
    style.legend(figure, _points(sweep, found), loc="outside lower center", ncols=4)
    return figure


def scores(sweep: Sweep) -> pd.Series:
    """The last score of each of the search's trials that has any, in the unit of its axis, worst first."""
    if sweep.metric not in sweep.scores:
        return pd.Series(dtype=float)
    found = sweep.scores.loc[sweep.role("search"), sweep.metric].dropna() * factor(sweep.metric)
    return found.sort_values(ascending=sweep.maximize, kind="stable")


def kind(sweep: Sweep, key: str) -> str:
    """What a trial is drawn as: the winner, or how it ended."""
    return "winner" if key == sweep.best else str(sweep.trials.outcome[key])


def _slice(panel: Axes, sweep: Sweep, path: str, found: pd.Series) -> None:
    scale = scale_of(sweep, path)
    scale.draw(panel.xaxis, panel.set_xscale, panel.set_xlim)
    places = [scale.place(sweep.setting(str(key), path)) for key in found.index]
    points = pd.DataFrame({"x": places, "y": found, "kind": [kind(sweep, str(key)) for key in found.index]})
    points["x"] += jitter(len(points), 0.3 if scale.choices else 0.0)
    for of, group in points.dropna().groupby("kind"):
        panel.plot(group.x, group.y, linestyle="none", **_look(str(of)))


def _look(of: str) -> dict[str, Any]:
    """A trial's point."""
    round_point = {"marker": "o", "markersize": 5, "color": style.BLUE, "markeredgewidth": 0.9, "alpha": 0.85}
    return {
        "winner": {"marker": "*", "markersize": 13, "markeredgecolor": "white", "markeredgewidth": 0.7, **style.WINNER},
        "finished": round_point,
        "failed": {"marker": "x", "markersize": 5, "color": style.GREY},
    }.get(of, {**round_point, "markerfacecolor": "none"})


def _points(sweep: Sweep, found: pd.Series) -> list[Line2D]:
    """The legend: one of each kind that there is."""
    names = {
        "winner": "winner" if sweep.rows else "best so far", "finished": "trained to the end",
        "stopped_early": "stopped early, last score", "failed": "failed, last score",
        "interrupted": "interrupted, last score", "running": "still running",
    }  # fmt: skip
    there = {kind(sweep, str(key)) for key in found.index}
    return [style.mark(text, **_look(of) | {"markersize": 10 if of == "winner" else 5})
            for of, text in names.items() if of in there]  # fmt: skip

"""Figures of the search: scores against settings, and which settings matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raydistill.report.figures import style
from raydistill.report.figures.scales import Scale, jitter, scale_of
from raydistill.report.formatting import (
    axis,
    count,
    factor,
    label,
    missing,
    percent,
    score,
    setting,
    short_names,
)
from raydistill.report.importance import importances, rests_on, why_none
from raydistill.report.load import SweepData

NO_SCORE = "No trial of the search has a score yet."
NO_SETTING = "The search varied no setting."
REST, LEAST = "together, or noise", 0.005  # what no setting explains by itself, and how little of it is none
COLUMNS = 4
SPEAKING = 300  # trials whose points are drawn one by one, so that each says what it is
HEIGHT = 2.0  # inches of a row of panels


def importance(sweep: SweepData) -> Figure:
    """A bar for each searched setting: the share of the score's variation that it explains by itself.

    Among the trials that were trained to the end. A grey bar is what is left to all of it.
    """
    shares = importances(sweep)
    if shares.empty:
        return style.empty(why_none(sweep))
    names = short_names(sweep.searched)
    bars = {style.plain(names[str(path)]): float(share) for path, share in shares.items()}
    rest = 1 - sum(bars.values())
    colors = [style.BLUE] * len(bars)
    if rest > LEAST:
        bars, colors = bars | {REST: rest}, [*colors, style.FAINT]
    figure, (axes,) = style.grid_of(1, 1, 0.8 + 0.27 * len(bars))
    axes.barh(list(bars), [share * 100 for share in bars.values()], color=colors, height=0.62)
    for row, share in enumerate(bars.values()):
        axes.annotate(
            percent(share),
            (share * 100, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.SMALL,
            color=style.INK,
        )
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.set_xlim(0, max(bars.values()) * 112)
    axes.set_xlabel(
        f"share of the variation of {label(sweep.metric)} that each setting explains by itself (%), "
        f"over {count(rests_on(sweep), 'trial')} trained to the end"
    )
    return figure


def slices(sweep: SweepData, paths: Sequence[str] | None = None) -> Figure:
    """The score against each searched setting, or those of `paths`, a panel each.

    Filled: trained to the end; hollow: stopped early or not yet ended, at the last score; a star: the winner.
    """
    chosen = list(sweep.searched if paths is None else paths)
    found = scores(sweep)
    if found.empty or not chosen:
        return style.empty(NO_SCORE if found.empty else NO_SETTING)
    rows = math.ceil(len(chosen) / COLUMNS)
    columns = math.ceil(len(chosen) / rows)
    width = style.inner(columns)
    scales = [scale_of(sweep, path) for path in chosen]
    depths = [max(scale.depth(width) for scale in scales[i : i + columns]) for i in range(0, len(scales), columns)]
    figure, panels = style.grid_of(rows, columns, 0.6 + HEIGHT * rows + sum(depths), sharey=True)
    names = short_names(sweep.searched)
    for panel, path, scale in zip(panels, chosen, scales, strict=False):
        scale.draw(panel, width)
        _slice(panel, sweep, path, scale, found)
        panel.set_xlabel(style.plain(names[path]))
    for panel in panels[len(chosen) :]:
        panel.set_visible(False)
    figure.supylabel(axis(sweep.metric), fontsize=style.TEXT, color=style.INK)
    style.legend(figure, _points(sweep, found), loc="outside lower center", ncols=4)
    return figure


def scores(sweep: SweepData) -> pd.Series:
    """The last score of each of the search's trials that has any, in the unit of its axis, worst first."""
    if sweep.metric not in sweep.scores:
        return pd.Series(dtype=float)
    found = sweep.scores.loc[sweep.role("search"), sweep.metric].dropna() * factor(sweep.metric)
    return found.sort_values(ascending=sweep.maximize, kind="stable")


def described(sweep: SweepData, key: str) -> str:
    """Say what a trial is: its score, how long it was trained, and its settings."""
    names = short_names(sweep.searched)
    values = ((names[path], sweep.setting(key, path)) for path in sweep.searched)
    settings = " ".join(f"{name}={setting(value)}" for name, value in values if not missing(value))
    last = sweep.scores[sweep.metric].get(key) if sweep.metric in sweep.scores else None
    outcome = str(sweep.trials.outcome[key]).replace("_", " ")
    return f"{key}: {label(sweep.metric)} {score(sweep.metric, last)}, {outcome}; {settings}".rstrip("; ")


def kind(sweep: SweepData, key: str) -> str:
    """Return how a trial is drawn: as the winner, or by its outcome."""
    return "winner" if key == sweep.best else str(sweep.trials.outcome[key])


def _slice(panel: Axes, sweep: SweepData, path: str, scale: Scale, found: pd.Series) -> None:
    places = [scale.place(sweep.setting(str(key), path)) for key in found.index]
    points = pd.DataFrame({"x": places, "y": found, "kind": [kind(sweep, str(key)) for key in found.index]})
    points["x"] += jitter(len(points), 0.3 if scale.choices else 0.0)
    points["key"] = list(map(str, found.index))
    for of, group in points.dropna().groupby("kind"):
        parts = [group.iloc[[row]] for row in range(len(group))] if len(points) <= SPEAKING else [group]
        for part in parts:
            drawn = panel.plot(part.x, part.y, linestyle="none", **_look(str(of)))
            if len(part) == 1:
                style.say(drawn, described(sweep, part.key.iloc[0]))


def _look(of: str) -> dict[str, Any]:
    """A trial's point."""
    round_point = {"marker": "o", "markersize": 5, "color": style.BLUE, "markeredgewidth": 0.9, "alpha": 0.85}
    return {
        "winner": {"marker": "*", "markersize": 13, "markeredgecolor": "white", "markeredgewidth": 0.7, **style.WINNER},
        "finished": round_point,
        "failed": {"marker": "x", "markersize": 5, "color": style.GREY},
    }.get(of, {**round_point, "markerfacecolor": "none"})


def _points(sweep: SweepData, found: pd.Series) -> list[Line2D]:
    """The legend: one of each kind that there is."""
    names = {
        "winner": "winner" if sweep.rows else "best so far",
        "finished": "trained to the end",
        "stopped_early": "stopped early, last score",
        "failed": "failed, last score",
        "interrupted": "interrupted, last score",
        "running": "still running",
    }
    there = {kind(sweep, str(key)) for key in found.index}
    return [
        style.mark(text, **_look(of) | {"markersize": 10 if of == "winner" else 5})
        for of, text in names.items()
        if of in there
    ]

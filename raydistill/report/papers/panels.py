"""Scores against one setting, as the papers draw them, with the trials that each mean rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raydistill.report.compared import baselines
from raydistill.report.figures import style
from raydistill.report.figures.scales import Scale, jitter, scale_of
from raydistill.report.load import Sweep
from raydistill.report.wording import axis, factor, is_number, missing, setting, short_names

BINS = 5  # of a range, in which trials count as alike
COLORS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.RED)
ORDERED = colormaps["viridis"]
HEIGHT, ALONE = 3.4, 6.2  # inches; the width of a panel alone
FOOT = 0.1  # share of a panel for the trials that were stopped early
PAPER, PLAIN = "the paper's choice", "without distillation"


def expect(sweep: Sweep, method: str) -> None:
    """Raises: ValueError for a sweep of another method."""
    if sweep.method != method:
        raise ValueError(f"{sweep.name} is a sweep of {sweep.method}; this is a figure of {method}")


def against(sweep: Sweep, *paths: str, by: str | None = None, published: Mapping[str, Any] | None = None) -> Figure:
    """The score against each of several settings, a panel each; the first one's trials are told apart `by` another.

    `published`: the paper's choice of a setting, marked. A setting that the search did not vary comes last, and is
    named with its value instead.
    """
    paths = tuple(sorted(paths, key=lambda path: not varied(sweep, path)))
    figure, panels = style.grid_of(1, len(paths), HEIGHT, width=style.WIDTH if len(paths) > 1 else ALONE, sharey=True)
    for number, (panel, path) in enumerate(zip(panels, paths, strict=True)):
        draw(panel, sweep, path, by=by if number == 0 else None, published=(published or {}).get(path))
    panels[0].set_ylabel(axis(sweep.metric))
    _make_room(panels[0])
    style.legend(figure, _key(panels), loc="outside lower center", ncols=min(len(paths) + 1, 3))
    return figure


def draw(axes: Axes, sweep: Sweep, path: str, *, by: str | None = None, published: Any = None) -> None:
    """One panel: trials trained to the end as points, their means as lines, n above the panel.

    Trials that were stopped early have no score that compares; hollow points at the foot say where they are. Where
    the setting has a range, trials of one of its `BINS` parts share a mean.
    """
    name = style.plain(short_names({*sweep.searched, path})[path])
    axes.set_xlabel(name)
    if not varied(sweep, path):
        _say_fixed(axes, sweep, path, name)
        return
    scale = scale_of(sweep, path)
    scale.draw(axes.xaxis, axes.set_xscale, axes.set_xlim)
    frame = trials(sweep, path, scale)
    groups = _groups(sweep, by, frame) if by is not None and varied(sweep, by) else {"": (frame.index, style.BLUE)}
    for keys, color in groups.values():
        _points(axes, frame.loc[keys], scale, color)
        _means(axes, frame.loc[keys], color, counted=len(groups) == 1)
    if len(groups) > 1:
        short = short_names(sweep.searched)[str(by)]
        handles = [style.mark(f"{style.plain(short)} {value} ({frame.full[keys].sum()})", marker="o", color=color)
                   for value, (keys, color) in groups.items()]  # fmt: skip
        style.legend(axes, handles, loc="best")
    place = math.nan if published is None else _place(scale, published)
    if not math.isnan(place):
        axes.axvline(place, color=style.GREY, linestyle=":", linewidth=1.2, zorder=1, label=PAPER)
    found = baseline(sweep)
    if found is not None:
        axes.axhline(found, color=style.GREY, linestyle="--", linewidth=1, zorder=1, label=PLAIN)


def varied(sweep: Sweep, path: str) -> bool:
    """Whether the search gave a setting more than one value."""
    return path in sweep.settings and len({setting(v) for v in sweep.settings[path] if not missing(v)}) > 1


def trials(sweep: Sweep, path: str, scale: Scale) -> pd.DataFrame:
    """The search's trials with a score and a value of the setting: `place` on the axis, `level` of their mean,
    `score` in the unit of its axis, `full` for those trained to the end."""
    keys = sweep.role("search", "finished", "stopped_early")
    scores = sweep.scores[sweep.metric] if sweep.metric in sweep.scores else pd.Series(dtype=float)
    frame = pd.DataFrame({
        "place": [scale.place(value) for value in sweep.settings.loc[keys, path]],
        "score": scores.reindex(keys).to_numpy() * factor(sweep.metric),
        "full": (sweep.trials.outcome[keys] == "finished").to_numpy(),
    }, index=pd.Index(keys, dtype=object)).dropna()  # fmt: skip
    ranged = "values" not in sweep.spec(path)
    frame["level"] = [_middle(scale, place) if ranged else place for place in frame.place]
    return frame


def baseline(sweep: Sweep) -> float | None:
    """The better baseline's mean in the sweep's metric, in the unit of its axis; None where it has none."""
    means = [found[0] for row in baselines(sweep)[:1] if (found := row.mean(sweep.metric))]
    return means[0] * factor(sweep.metric) if means else None


def _middle(scale: Scale, place: float) -> float:
    """The middle of the part of a range in which a place lies."""
    low, high = (math.log(v) if scale.logarithmic else v for v in (scale.low, scale.high))
    part = min(int(scale.share(place) * BINS), BINS - 1)
    at = low + (part + 0.5) / BINS * (high - low)
    return math.exp(at) if scale.logarithmic else at


def _place(scale: Scale, value: Any) -> float:
    """Where the paper's choice lies; nan where the axis does not reach it."""
    if scale.choices:
        return scale.place(value) if setting(value) in scale.choices else math.nan
    return float(value) if scale.low <= value <= scale.high else math.nan


def _groups(sweep: Sweep, by: str, frame: pd.DataFrame) -> dict[str, tuple[pd.Index, Any]]:
    """Trials by their value of another setting, each with a colour: numbers in order, from dark to light."""
    values = sweep.settings.loc[frame.index, by]
    distinct = list({setting(value): value for value in values if not missing(value)}.values())
    numbers = all(map(is_number, distinct))
    distinct.sort(key=float if numbers else str)
    count = max(len(distinct) - 1, 1)
    return {
        setting(value): (
            frame.index[[setting(v) == setting(value) for v in values]],
            ORDERED(0.92 * i / count) if numbers else COLORS[i % len(COLORS)],
        )
        for i, value in enumerate(distinct)
    }


def _points(axes: Axes, frame: pd.DataFrame, scale: Scale, color: Any) -> None:
    places = frame.place + (jitter(len(frame), 0.25) if scale.choices else 0)
    look: dict[str, Any] = {"color": color, "markersize": 5, "markeredgewidth": 0.9, "alpha": 0.75}
    axes.plot(places[frame.full], frame.score[frame.full], "o", zorder=3, **look)
    stopped = places[~frame.full]
    heights = FOOT * (0.5 + jitter(len(stopped), 0.7))
    axes.plot(stopped, heights, "o", markerfacecolor="none", transform=axes.get_xaxis_transform(), zorder=3, **look)


def _means(axes: Axes, frame: pd.DataFrame, color: Any, *, counted: bool) -> None:
    """A line through the means of trials trained to the end; `counted`: with the number of them above the panel."""
    found = frame[frame.full].groupby("level").score.agg(["mean", "count"])
    axes.plot(found.index, found["mean"], color=color, linewidth=1.6, marker="D", markersize=4 if counted else 0,
              markeredgecolor="white", markeredgewidth=0.6, zorder=4)  # fmt: skip
    for level, _, count in found.itertuples() if counted else ():
        axes.annotate(f"n={count}", (level, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=style.SMALL, color=style.GREY)  # fmt: skip


def _make_room(axes: Axes) -> None:
    """For the trials at the foot."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - (high - low) * 1.5 * FOOT, high)


def _say_fixed(axes: Axes, sweep: Sweep, path: str, name: str) -> None:
    """In place of a panel."""
    values = sweep.params.reindex(columns=[path]).loc[sweep.role("search"), path]
    used = [setting(value) for value in values if not missing(value)]
    axes.set_axis_off()
    text = f"{name} was {used[0]}\nin every trial" if used else f"no trial has a {name}"
    axes.text(0.5, 0.5, text, transform=axes.transAxes,
              ha="center", va="center", fontsize=style.TEXT, color=style.GREY)  # fmt: skip


def _key(panels: list[Axes]) -> list[Line2D]:
    point = {"marker": "o", "color": style.GREY, "markersize": 5, "markeredgewidth": 0.9}
    drawn = {line.get_label() for panel in panels for line in panel.get_lines()}
    lines = {PLAIN: "--", PAPER: ":"}
    return [
        style.mark("trained to the end", **point),
        style.mark("stopped early, at the foot without its score", markerfacecolor="none", **point),
        style.mark("mean of n trials", marker="D", color=style.GREY, linestyle="-", markersize=4),
        *(style.mark(text, linestyle=kind, color=style.GREY) for text, kind in lines.items() if text in drawn),
    ]

"""Scores against one setting, as the papers draw them, with the trials that each mean rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raydistill.report.figures import style
from raydistill.report.figures.labels import letters
from raydistill.report.figures.scales import Scale, jitter, scale_of
from raydistill.report.formatting import axis, is_number, missing, setting, short_names
from raydistill.report.load import SweepData
from raydistill.report.papers.trials import baseline, groups, trials, used, varied
from raydistill.report.savings import judged

HEIGHT, ALONE = 3.4, 6.2  # inches; the width of a panel alone
FOOT = 0.1  # share of a panel for the trials that were stopped early
PAPER, PLAIN = "the paper's choice", "baseline"
STOPPED = "stopped early, at the foot without its score"
MEAN, LEFT = "mean of n trials", "mean of n trained to the end: too good\nwhere early stopping ended others"
ALL, GROUP = 5.0, 4.0  # points, the size of a mean's mark: of all trials, and of one group of several
ROW, HANDLE = 0.18, 7  # of the groups' legend: inches of a row, letters that an entry's mark takes


def against(
    sweep: SweepData, *paths: str, by: str | None = None, published: Mapping[str, Any] | None = None, paper: str = PAPER
) -> Figure:
    """Draw the score against each of several settings, a panel each.

    A setting that the search did not vary comes last, and is named with its value instead.

    Args:
        sweep: the sweep.
        *paths: the settings.
        by: a setting whose values have colours in the first panel.
        published: the paper's choice of a setting, which is marked.
        paper: its name in the legend.
    """
    paths = tuple(sorted(paths, key=lambda path: not varied(sweep, path)))
    scales = {path: scale_of(sweep, path) for path in paths if varied(sweep, path)}
    alone = len(paths) == 1 and not any(scale.labels(style.inner(1, ALONE))[1] for scale in scales.values())
    whole = ALONE if alone else style.WIDTH
    width = style.inner(len(paths), whole)
    depth = max((scale.depth(width) for scale in scales.values()), default=0.0)
    figure, panels = style.grid_of(1, len(paths), HEIGHT + depth, width=whole, sharey=True)
    for number, (panel, path) in enumerate(zip(panels, paths, strict=True)):
        if path not in scales:
            _say_fixed(panel, sweep, path)
            continue
        told = by if number == 0 and by not in (None, path) and varied(sweep, str(by)) else None
        draw(panel, sweep, path, scales[path], width, by=told, published=(published or {}).get(path))
    panels[0].set_ylabel(axis(sweep.metric))
    _make_room(panels[0])
    style.legend(figure, _key(sweep, panels, paper), loc="outside lower center", ncols=min(len(paths) + 1, 3))
    return figure


def draw(
    axes: Axes, sweep: SweepData, path: str, scale: Scale, width: float, *, by: str | None = None, published: Any = None
) -> None:
    """Draw one panel: trials trained to the end as points, their means as diamonds, n above the panel.

    Trials that were stopped early have no score that compares; hollow points at the foot say where they are. Where
    the setting has a range, trials of one of its `BINS` parts share a mean.

    Args:
        axes: the panel.
        sweep: the sweep.
        path: the setting.
        scale: of the setting.
        width: of the panel in inches.
        by: a setting whose values have colours.
        published: the paper's choice, which is marked.
    """
    axes.set_xlabel(_name(sweep, path))
    scale.draw(axes, width)
    frame = trials(sweep, path, scale)
    ordered = not _names(scale)
    told = {} if by is None else groups(sweep, by, frame)
    if by is None or len(told) < 2:
        _points(axes, frame, style.BLUE)
        _means(axes, frame, style.INK, ordered=ordered, size=ALL)
        _counts(axes, frame)
    else:
        for keys, color in told.values():
            _points(axes, frame.loc[keys], color)
            _means(axes, frame.loc[keys], color, ordered=ordered, size=GROUP)
        handles = [
            style.mark(f"{style.plain(value)}, n={frame.full[keys].sum()}", marker="o", color=color)
            for value, (keys, color) in told.items()
        ]
        _name_groups(axes, handles, _name(sweep, by), width)
    place = math.nan if published is None else _place(scale, published)
    if not math.isnan(place):
        axes.axvline(place, color=style.GREY, linestyle=":", linewidth=1.2, zorder=1, label=PAPER)
    found = baseline(sweep)
    if found is not None:
        axes.axhline(found, color=style.GREY, linestyle="--", linewidth=1, zorder=1, label=PLAIN)


def _name_groups(axes: Axes, handles: list[Line2D], name: str, width: float) -> None:
    """Their legend above the panel, for which the figure grows."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, letters(width) // (longest + HANDLE))
    style.legend(
        axes,
        handles,
        title=name,
        title_fontsize=style.SMALL,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
    )
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.set_figheight(figure.get_figheight() + ROW * (1 + math.ceil(len(handles) / columns)))


def _name(sweep: SweepData, path: str) -> str:
    return style.plain(short_names({*sweep.searched, path})[path])


def _names(scale: Scale) -> bool:
    """Return whether the axis shows names, which have no order."""
    return bool(scale.choices) and _numbers(scale) is None


def _numbers(scale: Scale) -> list[float] | None:
    """The choices of an axis as numbers, in order; None where some are not."""
    try:
        return sorted(map(float, scale.choices))
    except ValueError:
        return None


def _place(scale: Scale, value: Any) -> float:
    """Position of the paper's choice, between two numbers of a list if it is none of them; nan beyond the axis."""
    if not scale.choices:
        return float(value) if scale.low <= value <= scale.high else math.nan
    if setting(value) in scale.choices:
        return scale.place(value)
    numbers = _numbers(scale)
    if numbers is None or not is_number(value):
        return math.nan
    return float(np.interp(value, numbers, range(len(numbers)), math.nan, math.nan))


def _points(axes: Axes, frame: pd.DataFrame, color: Any) -> None:
    look: dict[str, Any] = {"color": color, "markersize": 5, "markeredgewidth": 0.9, "alpha": 0.75, "zorder": 3}
    axes.plot(frame.shown[frame.full], frame.score[frame.full], "o", **look)
    stopped = frame.shown[~frame.full]
    heights = FOOT * (0.5 + jitter(len(stopped), 0.7))
    foot = axes.get_xaxis_transform()
    if len(stopped):
        axes.plot(stopped, heights, "o", markerfacecolor="none", transform=foot, label=STOPPED, **look)


def _means(axes: Axes, frame: pd.DataFrame, color: Any, *, ordered: bool, size: float) -> None:
    """A mark at each mean of trials trained to the end, joined where the axis has an order."""
    found = frame[frame.full].groupby("level").score.mean()
    axes.plot(
        found.index,
        found,
        color=color,
        linewidth=1.6,
        linestyle="-" if ordered else "none",
        marker="D",
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
    )


def _counts(axes: Axes, frame: pd.DataFrame) -> None:
    """Write above the panel how many trials each mean rests on."""
    for level, count in frame[frame.full].groupby("level").size().items():
        axes.annotate(
            f"n={count}",
            (level, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=style.SMALL,
            color=style.GREY,
        )


def _make_room(axes: Axes) -> None:
    """Make room at the foot for the trials that were stopped early."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - (high - low) * 1.5 * FOOT, high)


def _say_fixed(axes: Axes, sweep: SweepData, path: str) -> None:
    """Name a setting that did not vary, in place of its panel."""
    name = _name(sweep, path)
    axes.set_xlabel(name)
    values = [setting(value) for value in used(sweep, path) if not missing(value)]
    axes.set_axis_off()
    text = f"{name} was {style.plain(values[0])}\nin every trial" if values else f"no trial has a {name}"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=style.TEXT, color=style.GREY)


def _key(sweep: SweepData, panels: list[Axes], paper: str) -> list[Line2D]:
    """The legend of what the panels have. A budget that cuts trials off does not choose the good ones."""
    point = {"marker": "o", "color": style.GREY, "markersize": 5, "markeredgewidth": 0.9}
    every = [line for panel in panels for line in panel.get_lines()]
    drawn = {line.get_label() for line in every}
    chosen = STOPPED in drawn and set(judged(sweep)) & set(sweep.role("search", "stopped_early"))
    joined = any(line.get_marker() == "D" and line.get_linestyle() == "-" for line in every)
    lines = {PLAIN: (PLAIN, "--"), PAPER: (paper, ":")}
    hollow = [style.mark(STOPPED, markerfacecolor="none", **point)] if STOPPED in drawn else []
    return (
        []
        if not every
        else [
            style.mark("trained to the end", **point),
            *hollow,
            style.mark(
                LEFT if chosen else MEAN,
                marker="D",
                markersize=ALL,
                color=style.GREY,
                linestyle="-" if joined else "none",
            ),
            *(
                style.mark(text, linestyle=kind, color=style.GREY)
                for name, (text, kind) in lines.items()
                if name in drawn
            ),
        ]
    )

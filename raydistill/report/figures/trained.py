"""Figures of training: learning curves, epochs saved by early stopping, speed of packs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raydistill.report.comparison import finalists
from raydistill.report.figures import style
from raydistill.report.figures.searched import NO_SCORE, described, kind
from raydistill.report.formatting import axis, factor
from raydistill.report.load import SweepData
from raydistill.report.savings import full_epochs, judged, savings

APART = 100  # trials that a white line keeps from each other; among more it would be all that is seen
PACE = ("step_seconds", "pack_learners", "images_per_second")
ARMS = ("-", "--", ":")  # lines of arms beyond the colours
LINES: dict[str, dict[str, Any]] = {
    "winner": {"linestyle": "-", "linewidth": 2.4, **style.WINNER},
    "finished": {"linestyle": "-", "linewidth": 1.1, "color": style.BLUE, "alpha": 0.55, "zorder": 3},
}
ENDED: dict[str, Any] = {
    "linestyle": "-",
    "linewidth": 1,
    "color": style.FAINT,
    "marker": "o",
    "markersize": 3.5,
    "markevery": [-1],
}


def learning_curves(sweep: SweepData) -> Figure:
    """The score by epoch of the search's trials: the winner in orange, stopped ones faint with their end marked.

    Of an experiment the final runs, in the colours of their arms.
    """
    if sweep.experiment:
        return _by_arm(sweep)
    curves = sweep.curves(sweep.metric, sweep.role("search")) * factor(sweep.metric)
    curves = curves.dropna(axis=1, how="all")
    if curves.empty:
        return style.empty(NO_SCORE)
    figure, (axes,) = style.grid_of(1, 1, 3.8)
    kinds = {str(key): kind(sweep, str(key)) for key in curves}
    for key, curve in curves.items():
        there = curve.dropna()
        dot: dict[str, Any] = {"marker": "o", "markersize": 4} if len(there) == 1 else {}
        drawn = axes.plot(there.index, there, **dot | LINES.get(kinds[str(key)], ENDED))
        style.say(drawn, described(sweep, str(key)))
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis(sweep.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend = {
        f"{'winner' if sweep.rows else 'best so far'}, {sweep.best}": LINES["winner"] if sweep.best in kinds else None,
        "trained to the end": LINES["finished"] if "finished" in kinds.values() else None,
        "ended before": ENDED if set(kinds.values()) - set(LINES) else None,
    }
    handles = [style.mark(name, **look) for name, look in legend.items() if look]
    style.legend(figure, handles, loc="outside lower center", ncols=3)
    return figure


def _by_arm(sweep: SweepData) -> Figure:
    """The score by epoch of every run of the arms."""
    curves = (sweep.curves(sweep.metric) * factor(sweep.metric)).dropna(axis=1, how="all")
    arms = {row.name: [key for key in row.runs if key in curves] for row in finalists(sweep)}
    arms = {name: keys for name, keys in arms.items() if keys}
    if not arms:
        return style.empty(NO_SCORE)
    figure, (axes,) = style.grid_of(1, 1, 3.8)
    handles = []
    for number, (name, keys) in enumerate(arms.items()):
        color = style.COLORS[number % len(style.COLORS)]
        look: dict[str, Any] = {"color": color, "linestyle": ARMS[number // len(style.COLORS) % len(ARMS)]}
        for key in keys:
            there = curves[key].dropna()
            dot: dict[str, Any] = {"marker": "o", "markersize": 4} if len(there) == 1 else {}
            drawn = axes.plot(there.index, there, linewidth=1.4, alpha=0.8, **dot, **look)
            style.say(drawn, f"{name}: {key}")
        handles.append(style.mark(name, **look))
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis(sweep.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(figure, handles, loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def budget(sweep: SweepData) -> Figure:
    """Draw what training took.

    Left: the epochs that each trial was trained, of all that it could have had. Middle and right: the seconds that
    a learner's step takes, and the images that all learners together are trained on per second, by learners in the
    pack.
    """
    figure, (left, middle, right) = style.grid_of(1, 3, 2.9)
    _saved(left, sweep)
    _pace(middle, right, sweep)
    return figure


def _saved(axes: Axes, sweep: SweepData) -> None:
    """Trials beside each other, longest first: trained epochs dark, the rest of a full training light.

    Without those that a spent budget cut off, whose rest early stopping did not save.
    """
    found, length = savings(sweep), full_epochs(sweep)
    epochs = sweep.epochs().loc[judged(sweep)].sort_values(ascending=False)
    style.titled(axes, f"{found.trained} of {found.full} epochs trained" if found.full else "no trial has ended")
    axes.bar(range(len(epochs)), [length] * len(epochs), width=1, color=style.RULE)
    apart = 0.3 if len(epochs) <= APART else 0.0
    axes.bar(range(len(epochs)), epochs, width=1, color=style.BLUE, edgecolor="white", linewidth=apart)
    axes.grid(visible=False)
    axes.set_xlabel(f"{'runs' if sweep.experiment else 'trials'}, longest first")
    axes.set_ylabel("epochs")
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def _pace(seconds: Axes, images: Axes, sweep: SweepData) -> None:
    """Every epoch of the trials as a point, the median of each number of learners as a line."""
    keys = sweep.role("final" if sweep.experiment else "search")
    frame = pd.DataFrame({name: sweep.curves(name, keys).stack() for name in PACE}).dropna()
    frame["images"] = frame.images_per_second * frame.pack_learners
    frame["milliseconds"] = frame.step_seconds * 1000
    if frame.empty:
        seconds.set_visible(False)
        images.set_visible(False)
        return
    for axes, column, title, text in (
        (seconds, "milliseconds", "a learner's step", "milliseconds"),
        (images, "images", "the pack's throughput", "images per second, all learners"),
    ):
        style.titled(axes, title)
        axes.plot(frame.pack_learners, frame[column], "o", markersize=3, color=style.SKY, alpha=0.35, markeredgewidth=0)
        middle = frame.groupby("pack_learners")[column].median()
        axes.plot(middle.index, middle, marker="o", markersize=5, color=style.BLUE, linewidth=1.4)
        axes.set_xlabel("learners in the pack")
        axes.set_ylabel(text)
        axes.set_ylim(0, float(frame[column].max()) * 1.1)
        axes.set_xlim(float(frame.pack_learners.min()) - 0.5, float(frame.pack_learners.max()) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))

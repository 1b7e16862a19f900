"""The winner, its baselines and its references."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydistill.records.intervals import estimate
from raydistill.records.leaderboard import LeaderboardEntry, is_reference
from raydistill.report.comparison import METRICS, by_seed, finalists, references
from raydistill.report.figures import style
from raydistill.report.figures.labels import shortened
from raydistill.report.figures.scales import jitter
from raydistill.report.formatting import ACCURACY, axis, factor, label, score
from raydistill.report.load import SweepData

MAX_PANELS = 3  # panels
Shown = list[tuple[str, SweepData, LeaderboardEntry]]


def comparison(*sweeps: SweepData) -> Figure:
    """Winner, baselines and references of one sweep or several: every seed a point, the mean, and its 95 % interval."""
    shown = [
        (_name(sweep, row, sweeps), sweep, row) for sweep in sweeps for row in [*finalists(sweep), *references(sweep)]
    ]
    metrics = [name for name in METRICS if any(row.mean(name) for _, _, row in shown)][:MAX_PANELS]
    if not metrics:
        return style.empty("There is no final yet: nothing has been trained with several seeds.")
    figure, panels = style.grid_of(1, len(metrics), 1.0 + 0.34 * len(shown), sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        _panel(panel, shown, metric)
    panels[0].set_yticks(range(len(shown)), [style.plain(shortened(name)) for name, _, _ in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    handles = [
        style.mark("a seed", marker="o", markersize=4.5, markerfacecolor="none", color=style.GREY),
        style.mark("mean and 95 % interval", marker="D", color=style.INK, linestyle="-", linewidth=1.6),
    ]
    style.legend(figure, handles, loc="outside lower center", ncols=2)
    return figure


def _name(sweep: SweepData, row: LeaderboardEntry, sweeps: tuple[SweepData, ...]) -> str:
    return f"{sweep.name}: {row.name}" if len(sweeps) > 1 else row.name


def _panel(axes: Axes, shown: Shown, metric: str) -> None:
    scale = factor(metric)
    for place, (_, sweep, row) in enumerate(shown):
        seeds = {seed: value * scale for seed, value in by_seed(sweep, row, metric).items()}
        values = list(seeds.values())
        if not values:
            continue
        color = style.RED if row is sweep.rows[0] else style.GREY if is_reference(row.name) else style.BLUE
        found = estimate(values)
        look: dict[str, Any] = {"markersize": 4.5, "markerfacecolor": "none", "markeredgecolor": color, "alpha": 0.8}
        for (seed, value), apart in zip(seeds.items(), jitter(len(values), 0.3), strict=True):
            drawn = axes.plot(value, place + apart, "o", **look)
            of = f"{row.name}, seed {seed}" if isinstance(seed, int) else str(seed)
            style.say(drawn, f"{of}: {label(metric)} {score(metric, value / scale)}")
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
        axes.plot(found.mean, place, "D", markersize=5.5, color=color, markeredgecolor="white", markeredgewidth=0.6)
    if scale == ACCURACY[0]:
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0), min(high, 100))
    axes.set_xlabel(axis(metric))
    axes.grid(visible=False, axis="y")

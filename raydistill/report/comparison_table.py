"""Several sweeps side by side: each method's winner, its baseline, and how sure their difference is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydistill.records.intervals import Difference, Estimate, estimate
from raydistill.report.comparison import METRICS, against, baselines, by_seed
from raydistill.report.figures import style
from raydistill.report.formatting import factor, label
from raydistill.report.load import SweepData

COMPARED_METRICS = ("val_knn", "val_instance", "test_knn", "test_instance", "test_probe")
POOLED = "mean of the sweeps"


def comparison_table(sweeps: Sequence[SweepData]) -> pd.DataFrame:
    """A row for each sweep and metric, of the sweeps that have a final; scores and differences in percent.

    method, student (its backbone), parameters in millions, seeds; score, sd over seeds, low and high (95 % interval of
    the mean, by Student's t); baseline (the better one on validation), baseline score, baseline sd; difference, its
    95 % interval (difference low, difference high), paired by seed. Missing where a single seed shows no spread, or
    there is no baseline.
    """
    rows = {(sweep.name, metric): _row(sweep, metric) for sweep in sweeps for metric in _metrics(sweep)}
    return pd.DataFrame(rows.values(), index=pd.MultiIndex.from_tuples(rows, names=["sweep", "metric"]))


def differences(sweeps: Sequence[SweepData]) -> Figure:
    """Winner minus baseline of each sweep with its 95 % interval, a panel for each score.

    The last line takes each sweep as one observation: does distillation help whatever the method?
    """
    table = comparison_table(sweeps)
    table = table[table.difference.notna()] if len(table) else table
    metrics = [metric for metric in METRICS if metric in table.index.get_level_values("metric")]
    if not metrics:
        return style.empty("No sweep has a winner and a baseline with scores yet.")
    names = list(dict.fromkeys(table.index.get_level_values("sweep")))
    lines = [*names, POOLED] if len(names) > 1 else names
    figure, panels = style.grid_of(1, len(metrics), 1.1 + 0.36 * len(lines), sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        found = table.xs(metric, level="metric")
        panel.axvline(0, color=style.GREY, linewidth=1)
        for name, row in found.iterrows():
            _interval(panel, lines.index(name), row.difference, row["difference low"], row["difference high"])
        if len(found) > 1:
            whole = pooled(table, metric)
            _interval(panel, len(names), whole.mean, whole.low, whole.high, style.RED)
        panel.set_xlabel(f"{label(metric).removesuffix(' accuracy')}, points")
        panel.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(lines)), list(map(style.plain, lines)))
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    figure.suptitle("winner minus its baseline", x=0.01, ha="left", fontsize=style.TEXT)
    return figure


def pooled(table: pd.DataFrame, metric: str) -> Estimate:
    """The mean of the sweeps' differences in a metric, each sweep one observation. Raises: ValueError without any.

    Sweeps of one base configuration share their baseline's runs, and with them its noise: the interval is then too
    narrow.
    """
    return estimate(table.xs(metric, level="metric").difference.dropna())


def _metrics(sweep: SweepData) -> list[str]:
    return [metric for metric in COMPARED_METRICS if sweep.rows and sweep.rows[0].mean(metric)]


def _row(sweep: SweepData, metric: str) -> dict[str, Any]:
    winner, scale = sweep.rows[0], factor(metric)
    found = estimate(value * scale for value in by_seed(sweep, winner, metric).values())
    size = winner.mean("student_parameters")
    other = next((row for row in baselines(sweep) if row.mean(metric)), None)
    theirs = None if other is None else estimate(value * scale for value in by_seed(sweep, other, metric).values())
    gap: Difference | None = None if other is None else against(sweep, other, metric)
    return {
        "method": sweep.method,
        "student": _student(sweep),
        "parameters": size[0] * factor("student_parameters") if size else None,
        "seeds": found.count,
        "score": found.mean,
        "sd": found.std,
        "low": found.low,
        "high": found.high,
        "baseline": other.name if other else None,
        "baseline score": theirs.mean if theirs else None,
        "baseline sd": theirs.std if theirs else None,
        "difference": _scaled(gap.mean if gap else None, scale),
        "difference low": _scaled(gap.low if gap else None, scale),
        "difference high": _scaled(gap.high if gap else None, scale),
    }


def _student(sweep: SweepData) -> str:
    """The winner's backbone, of several peers' the first."""
    settings: dict[Any, Any] = sweep.params.loc[sweep.winner].dropna().to_dict() if sweep.winner else {}
    peers = settings.get("method.backbones") or [""]
    return str(settings.get("method.backbone") or peers[0])


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _interval(
    axes: Axes, place: int, mean: float, low: float | None, high: float | None, color: str = style.BLUE
) -> None:
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
    axes.plot(mean, place, "D", markersize=5.5, color=color, markeredgecolor="white", markeredgewidth=0.6)

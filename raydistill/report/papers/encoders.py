"""Scores of a sweep's finalists by encoder: a ViT's blocks, the exits of a ResNet."""

from __future__ import annotations

import re

import pandas as pd
from matplotlib.axes import Axes

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.figures import style
from raydistill.report.formatting import axis, factor
from raydistill.report.load import SweepData


def by_encoder(sweep: SweepData, row: LeaderboardEntry, metric: str, kind: str) -> pd.DataFrame:
    """Scores of a row in percent: a line for each seed, a column for each `kind` and its number.

    The student itself is the deepest. Where the row has the student alone, that is the last column of the sweep's.

    Args:
        sweep: the sweep.
        row: one configuration of its leaderboard.
        metric: which score.
        kind: block or exit.

    Raises:
        ValueError: the sweep scored no such encoders.
    """
    deepest = 1 + max(
        (number for each in sweep.rows for score in each.scores for number in _numbers(score, kind)), default=0
    )
    if deepest == 1:
        raise ValueError(f"{sweep.name} scored its student alone; add --set eval.encoders=all to score every {kind}")
    names = {f"{metric}_{kind}_{number}": number for number in range(1, deepest)} | {metric: deepest}
    scores = pd.DataFrame(row.scores)
    return scores[[name for name in names if name in scores]].rename(columns=names) * factor(metric)


def line(axes: Axes, scores: pd.DataFrame, color: str, label: str) -> None:
    """Draw the mean over seeds with its standard deviation as a bar, and every seed as a circle.

    Args:
        axes: where to draw.
        scores: a line for each seed, as `by_encoder` returns them.
        color: of the line.
        label: for the legend.
    """
    places = list(map(float, scores.columns))
    axes.errorbar(
        places,
        scores.mean(),
        yerr=scores.std().fillna(0),
        color=color,
        linewidth=1.6,
        marker="D",
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        capsize=3,
        label=label,
    )
    for _, seed in scores.iterrows():
        axes.plot(places, seed, "o", markersize=4, markerfacecolor="none", color=color, alpha=0.6)


def label_panel(axes: Axes, metric: str, kind: str, ticks: dict[int, str]) -> None:
    """Label a panel of scores by encoder.

    Args:
        axes: the panel.
        metric: which score.
        kind: block or exit.
        ticks: names of the encoders by number.
    """
    axes.set_xlabel(kind)
    axes.set_ylabel(axis(metric))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK)


def _numbers(score: dict[str, float], kind: str) -> list[int]:
    return [int(match[1]) for name in score if (match := re.fullmatch(rf"\w+_{kind}_(\d+)", name))]

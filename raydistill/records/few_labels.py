"""The table of scores with few labels of each class."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from raydistill.records.leaderboard import LeaderboardEntry, shown
from raydistill.table import Table

CLASSIFIERS = {"knn": "k-NN", "probe": "linear probe"}
NOTE = (
    "Test accuracy (%) with so many labels of each class: mean over 10 draws of the labels, and seeds. In brackets: "
    "95 % interval of one draw on new images. It includes the error of a test split of this size. All rows share the "
    "draws and the test images, so that rows may differ although their intervals overlap."
)
_METRIC = re.compile(r"test_(knn|probe)_(\d+|all)_labels")


def few_label_table(rows: Sequence[LeaderboardEntry]) -> Table:
    """A line for each configuration and classifier, a column for each number of labels; empty where none was scored."""
    counts = _counts(rows)
    body = [
        [row.name, called, *(_cell(row, f"test_{classifier}_{count}_labels") for count in counts)]
        for row in rows
        for classifier, called in CLASSIFIERS.items()
        if any(row.mean(f"test_{classifier}_{count}_labels") for count in counts)
    ]
    return Table(["configuration", "classifier", *(_heading(count) for count in counts)], body)


def _counts(rows: Sequence[LeaderboardEntry]) -> list[str]:
    names = {name for row in rows for score in row.scores for name in score}
    counts = {found[2] for name in names if (found := _METRIC.fullmatch(name))}
    return sorted(counts, key=lambda count: float("inf") if count == "all" else int(count))


def _heading(count: str) -> str:
    return "all labels" if count == "all" else "1 label" if count == "1" else f"{count} labels"


def _cell(row: LeaderboardEntry, metric: str) -> str:
    """61.20 (55.03 to 67.11), each the mean over seeds."""
    found = {
        end: [score[metric + end] for score in row.scores if metric + end in score] for end in ("", "_low", "_high")
    }
    if not all(found.values()):
        return "–"
    mean, low, high = (shown(metric, statistics.fmean(values)) for values in found.values())
    return f"{mean} ({low} to {high})"

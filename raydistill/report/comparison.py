"""The winner beside its baselines: scores by seed, and what their differences show."""

from __future__ import annotations

import re
from collections.abc import Hashable

from raydistill.records import leaderboard
from raydistill.records.intervals import Difference, difference
from raydistill.records.leaderboard import BASELINES, SEARCHED, LeaderboardEntry, is_reference
from raydistill.report.formatting import MISSING
from raydistill.report.intervals import sentence
from raydistill.report.load import SweepData

METRICS = ("test_knn", "test_instance", "test_probe", "val_knn", "val_instance")


def finalists(sweep: SweepData) -> list[LeaderboardEntry]:
    """The rows that were trained with several seeds: the winner, of several metrics others of the front, baselines."""
    return [row for row in sweep.rows if row.name not in sweep.trials.index and not is_reference(row.name)]


def trained(sweep: SweepData) -> list[LeaderboardEntry]:
    """The rows of configurations that were trained: all but the references."""
    return [row for row in sweep.rows if not is_reference(row.name)]


def references(sweep: SweepData) -> list[LeaderboardEntry]:
    """Raw pixels, the untrained student and the teachers; none in sweeps of version 0.1."""
    return leaderboard.references(sweep.rows)


def baselines(sweep: SweepData) -> list[LeaderboardEntry]:
    """Rows of baselines with the winner's student, the best one on validation first."""
    return leaderboard.baselines(finalists(sweep)[1:])


def metrics(sweep: SweepData) -> list[str]:
    """The scores by which the winner can be compared, test before validation; losses of two methods do not compare."""
    winner, others = finalists(sweep)[:1], baselines(sweep)
    return [
        name
        for name in METRICS
        if any(row.mean(name) for row in winner) and (not others or any(row.mean(name) for row in others))
    ]


def by_seed(sweep: SweepData, row: LeaderboardEntry, metric: str) -> dict[Hashable, float]:
    """Scores of a row by seed.

    Where the runs do not say which score is of which seed, the key is the row's name and a number, which no other
    row has.

    Args:
        sweep: the sweep.
        row: one configuration of its leaderboard.
        metric: which score.
    """
    seeds: list[Hashable] = [_seed(key) for key in row.runs] or list(_seeds(sweep, row))
    if len(seeds) != len(row.scores):
        seeds = [(row.name, i) for i in range(len(row.scores))]
    return {seed: score[metric] for seed, score in zip(seeds, row.scores, strict=True) if metric in score}


def against(sweep: SweepData, row: LeaderboardEntry, metric: str) -> Difference | None:
    """Difference of the winner from another row; None where one of them has no such score.

    Args:
        sweep: the sweep.
        row: the other configuration.
        metric: which score.
    """
    ours, theirs = (by_seed(sweep, each, metric) for each in (sweep.rows[0], row))
    return difference(ours, theirs) if ours and theirs else None


def paired(sweep: SweepData) -> bool:
    """Return whether all differences from the baselines are by seeds that both were trained with."""
    found = (against(sweep, row, metric) for row in baselines(sweep) for metric in metrics(sweep))
    return all(each.paired for each in found if each)


def sentences(sweep: SweepData, row: LeaderboardEntry) -> list[str]:
    """Describe the comparison of the winner with a row, one sentence for each of `metrics`."""
    found = {metric: against(sweep, row, metric) for metric in metrics(sweep)}
    return [sentence(each, metric) if each else MISSING for metric, each in found.items()]


def _seed(run: str) -> int:
    """The seed of a run by its key; a search's own trial is the first one."""
    found = re.fullmatch(r"final-.*-seed(\d+)(?:-\d+)?", run)
    return int(found[1]) if found else 0


def _seeds(sweep: SweepData, row: LeaderboardEntry) -> list[int]:
    """Seeds of a row's runs that finished, in order; the search's own trial stands for the first one."""
    pattern = re.compile(rf"final-{re.escape(row.name)}-seed(\d+)(?:-\d+)?")
    runs = {key: int(match[1]) for key in sweep.role("final") if (match := pattern.fullmatch(key))}
    ended = {seed for key, seed in runs.items() if sweep.trials.outcome[key] == "finished"}
    # What a search trained itself stands for the first seed.
    own = set() if 0 in runs.values() or (row.name.endswith(BASELINES) and not row.name.endswith(SEARCHED)) else {0}
    return sorted(ended | own)

"""Reading of a whole store: the final configurations of every finished sweep, and why others are left out."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydistill.errors import RaydistillError
from raydistill.records.layout import RESULTS_FILE, SWEEP_FILE
from raydistill.records.leaderboard import BASELINES, OWN_AUGMENTATION, SEARCHED, LeaderboardEntry
from raydistill.redaction import redact
from raydistill.report.comparison import finalists, references
from raydistill.report.conclusion import ENDS
from raydistill.report.formatting import missing
from raydistill.report.load import SweepData, load, sweeps
from raydistill.report.standings import conditions as under
from raydistill.report.standings.compare import METRICS, Contender
from raydistill.tracking.client import EXPERIMENT, TrackingError
from raydistill.tracking.delivery_queue import one_line


@dataclass(frozen=True)
class StoreContents:
    """All sweeps of a store.

    Args:
        sweeps: their number.
        contenders: the configurations of their finals, of the oldest sweep first.
        left_out: why other sweeps, and other rows, are no part of it, a line for each reason.
    """

    sweeps: int
    contenders: list[Contender]
    left_out: list[str]


def read(uri: str, experiment: str = EXPERIMENT) -> StoreContents:
    """Read all sweeps at a tracking address.

    Raises: ConfigError where there is no store, or no such experiment; TrackingError where the address cannot be used.
    """
    try:
        found = sweeps(uri, experiment).sort_values("started", kind="stable")
        contenders: list[Contender] = []
        left_out: dict[str, list[str]] = {}
        for name, outcome in found.outcome.items():
            more, reasons = _read_sweep(uri, experiment, str(name), outcome)
            contenders += more
            for reason in reasons:
                left_out.setdefault(reason, []).append(str(name))
    except RaydistillError:
        raise
    except Exception as error:
        raise TrackingError(f"MLflow at {redact(uri)} cannot be used: {one_line(error)}") from error
    lines = [f"{', '.join(names)}: {reason}" for reason, names in left_out.items()]
    return StoreContents(len(found), contenders, lines)


def contenders_of(sweep: SweepData) -> tuple[list[Contender], list[str]]:
    """The configurations of a sweep that are comparable with other sweeps', and why others are not."""
    if not sweep.rows:
        return [], ["MLflow has no table of its results"]
    if not _scored(sweep.rows[0]):
        return [], [f"its winner has no {' or '.join(METRICS)}"]
    found: list[Contender] = []
    reasons: list[str] = []
    for row in finalists(sweep):
        made = _contender(sweep, row)
        if isinstance(made, Contender):
            found.append(made)
        else:
            reasons.append(f"{row.name} {made}")
    if found and found[0].name == sweep.rows[0].name:
        found += _references(sweep, found[0], _settings(sweep, _runs(sweep, sweep.rows[0])[0]))
    return found, reasons


def _read_sweep(uri: str, experiment: str, name: str, outcome: str) -> tuple[list[Contender], list[str]]:
    if outcome != "finished":
        return [], [f"not finished ({ENDS.get(outcome, outcome or 'of unknown outcome')})"]
    try:
        return contenders_of(load(uri, name, experiment, (SWEEP_FILE, RESULTS_FILE)))
    except (RaydistillError, KeyError, TypeError, ValueError) as error:
        return [], [f"cannot be read: {redact(one_line(error))}"]


def _contender(sweep: SweepData, row: LeaderboardEntry) -> Contender | str:
    """A row of the table with all that it needs to be compared, or why it cannot be."""
    baseline = None
    if row.name.endswith(BASELINES):
        if not row.name.endswith((SEARCHED, OWN_AUGMENTATION)):
            return "was not searched itself"
        baseline = row.name.removesuffix(SEARCHED).removesuffix(OWN_AUGMENTATION)
    trials = under.trials_of(sweep, baseline)
    if baseline is None:  # an arm of an experiment may have had a search of its own
        trials = under.trials_of(sweep, row.name) or trials
    if baseline is not None and not trials:
        return "was not searched itself"
    if not _scored(row):
        return f"has no {' or '.join(METRICS)}"
    runs = _runs(sweep, row)
    if len(runs) != len(row.scores) or any(run not in sweep.trials.index for run in runs):
        return "does not say which run has which score"
    known = [_settings(sweep, run) for run in runs]
    seeds: list[Hashable] = [tuple(settings.get(path) for path in under.seed_paths(sweep)) for settings in known]
    if len(set(seeds)) < len(seeds):  # nothing tells them, so they are no other sweep's either
        seeds = [(sweep.name, run) for run in runs]
    return Contender(
        method=baseline or str(known[0].get("method.name", sweep.method)),
        name=row.name,
        conditions=under.conditions(sweep, known[0], trials),
        configuration=under.configuration(sweep, known[0]),
        scores=_by_seed(seeds, row),
        sweeps=(sweep.name,),
        views=under.views(known[0]),
        source=sweep.source,
        settings=row.settings,
    )


def _references(sweep: SweepData, winner: Contender, settings: under.Settings) -> list[Contender]:
    """Raw pixels, the untrained student and the teachers, beside the winner of their sweep."""
    if not len(sweep.role("search")):  # an experiment, whose arms may have several students and teachers
        return []
    of_winner = list(next(iter(winner.scores.values())))
    found = []
    for row in filter(_scored, references(sweep)):
        # The untrained student has the weights that each seed of the winner begins with.
        own = row.name == "untrained" and len(of_winner) == len(row.scores)
        seeds: Sequence[Hashable] = of_winner if own else range(len(row.scores))
        taught = row.name.startswith("teacher")
        about = under.configuration(sweep, settings, ("teacher",) if taught else ())
        found.append(
            replace(
                winner,
                method=row.name,
                name=row.name,
                configuration=f"{row.name} {about}",
                scores=_by_seed(seeds, row),
                views="",
                settings=row.settings,
                reference=True,
            )
        )
    return found


def _by_seed(seeds: Sequence[Hashable], row: LeaderboardEntry) -> dict[str, dict[Hashable, float]]:
    pairs = list(zip(seeds, row.scores, strict=True))
    found = {metric: {seed: score[metric] for seed, score in pairs if metric in score} for metric in METRICS}
    return {metric: values for metric, values in found.items() if values}


def _scored(row: LeaderboardEntry) -> bool:
    return any(row.mean(metric) for metric in METRICS)


def _settings(sweep: SweepData, run: str) -> dict[str, Any]:
    return {str(path): value for path, value in sweep.params.loc[run].items() if not missing(value)}


def _runs(sweep: SweepData, row: LeaderboardEntry) -> list[str]:
    """The runs of a row; of one of version 0.1, whose table does not name them, in the order of their seeds."""
    if row.runs:
        return row.runs
    pattern = re.compile(rf"final-{re.escape(row.name)}-seed(\d+)")
    ended = sweep.role("final", "finished")
    found = {int(match[1]): key for key in ended if (match := pattern.fullmatch(key))}
    if row is sweep.rows[0] and sweep.best is not None:  # the search's own run stands for the first seed
        found.setdefault(0, sweep.best)
    return [found[seed] for seed in sorted(found)]

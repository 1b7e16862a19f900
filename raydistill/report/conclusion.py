"""A sweep in one paragraph of plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.noise import describe, spread
from raydistill.report.comparison import against, baselines, finalists, metrics, references, trained
from raydistill.report.formatting import count, label, missing, percent, score, setting, short_names, unit
from raydistill.report.importance import importances, oob_r2, rests_on
from raydistill.report.intervals import sentence
from raydistill.report.load import SweepData

FEW = 20  # finished trials; with fewer the leading setting is too often one that does not matter
REFERENCE_NAMES = {"pixels": "raw pixels", "untrained": "the untrained student"}
ENDS = {
    "finished": "trained to the end",
    "stopped_early": "stopped early",
    "failed": "failed",
    "interrupted": "interrupted",
    "running": "still running",
}


def conclusion(sweep: SweepData) -> str:
    """Say what was tried, what won, by how much over the baseline, and which setting matters most."""
    if sweep.experiment:
        return " ".join([*_experiment(sweep), *_beside_references(sweep)])
    return " ".join(
        [*_tried(sweep), *_best(sweep), *_noise(sweep), *_compared(sweep), *_beside_references(sweep), *_matters(sweep)]
    )


def against_baseline(sweep: SweepData) -> str:
    """The winner beside its better baseline and its references, and the noise; empty before a final."""
    if sweep.experiment:
        return " ".join(_beside_references(sweep))
    return " ".join([*_compared(sweep), *_beside_references(sweep), *(_noise(sweep) if sweep.rows else ())])


def _experiment(sweep: SweepData) -> Iterator[str]:
    """Say what a published experiment compared, and which of the paper's claims hold."""
    about = sweep.experiment
    arms, seeds = count(len(about["arms"]), "arm"), count(about["seeds"], "seed")
    yield f"This is {about['name']}, {about['title']} ({about['source']}), at scale {about['scale']}: {arms}, {seeds}."
    verdicts = Counter(result["verdict"] for result in about.get("results", ()))
    if verdicts:
        words = {"holds": "hold", "does not hold": "do not hold", "undecided": "are undecided"}
        words |= {"not measured": "were not measured"}
        found = ", ".join(f"{verdicts[name]} {said}" for name, said in words.items() if verdicts[name])
        yield f"Of the paper's claims {found}."


def chosen(sweep: SweepData, key: str) -> str:
    """A trial's searched settings in short: lr=0.0033, tau_kd=1."""
    names = short_names(sweep.searched)
    values = {path: sweep.setting(key, path) for path in sweep.searched}
    return ", ".join(f"{names[path]}={setting(value)}" for path, value in values.items() if not missing(value))


def _tried(sweep: SweepData) -> Iterator[str]:
    outcomes = Counter(sweep.trials.outcome[sweep.role("search")])
    total = outcomes.total()
    ends = ", ".join(f"{outcomes[name]} {words}" for name, words in ENDS.items() if outcomes[name])
    so_far = "has so far tried" if sweep.outcome == "running" else "tried"
    tried = f"{count(total, 'configuration')} of {sweep.method} on {sweep.source}"
    yield f"The sweep {so_far} {tried}{f': {ends}' if ends else ''}."


def _best(sweep: SweepData) -> Iterator[str]:
    key = sweep.best
    if key is None:
        yield "No configuration has been trained to the end, so there is no winner."
        return
    reached = f"a {label(sweep.metric)} of {_value(sweep.metric, sweep.score(key))}"
    settings = chosen(sweep, key)
    yield f"The best, {key}{f' ({settings})' if settings else ''}, reached {reached}."
    if finalists(sweep) and (metric := next(iter(metrics(sweep)), None)):
        winner = sweep.rows[0]
        mean, std = winner.mean(metric) or (float("nan"), None)
        spread = f" ± {score(metric, std)}" if std is not None else ""
        seeds = count(len(winner.scores), "seed")
        yield f"Over {seeds} it has a {label(metric)} of {_value(metric, mean, spread)}."


def _noise(sweep: SweepData) -> Iterator[str]:
    """Say how exact the search's scores are, and how much they vary over seeds."""
    ranked, metric = sweep.ranked(), sweep.metric
    if text := describe(metric, [sweep.score(key) for key in ranked], sweep.images.get("val"), sweep.by_seed(ranked)):
        yield text
    groups = [[each[metric] for each in row.scores if metric in each] for row in trained(sweep)]
    if (deviation := spread(groups)) is not None:
        several = count(sum(len(group) > 1 for group in groups), "configuration")
        shown = score(metric, deviation) + (" points" if unit(metric) == "points" else "")
        yield f"Over seeds, {metric} has a standard deviation of {shown}, pooled over {several}."
    if ranked and sweep.best is not None and sweep.best != ranked[0] and sweep.rows:
        yield f"{ranked[0]} was best in the search, and {sweep.best} has the better mean over seeds."


def _compared(sweep: SweepData) -> Iterator[str]:
    if not finalists(sweep):
        return
    if not sweep.rows[0].scores:
        yield "None of the winner's own final runs came to its end, so it is compared with nothing."
        return
    row, metric = next(iter(baselines(sweep)), None), next(iter(metrics(sweep)), None)
    found = against(sweep, row, metric) if row and metric else None
    if row is None or metric is None or found is None:
        yield "No baseline was trained beside it."
    else:
        name = f"{sweep.rows[0].name} against {row.name}, a baseline with the same student, in {label(metric)}"
        yield f"{name}: {sentence(found, metric)}."
        # The baselines are often near equals on validation, where chance decides which one comes first.
        for other in baselines(sweep)[1:]:
            if (beside := against(sweep, other, metric)) is not None:
                yield f"Against {other.name}: {sentence(beside, metric)}."


def _beside_references(sweep: SweepData) -> Iterator[str]:
    """Say what the scores are worth: what raw pixels, the untrained student and the teachers have."""
    metric, rows = next(iter(metrics(sweep)), None), references(sweep)
    ours = _mean(sweep.rows[0], metric) if sweep.rows and metric else None
    theirs = {row.name: mean for row in rows if metric and (mean := _mean(row, metric)) is not None}
    if metric is None or ours is None or not theirs:
        return
    shown = ", ".join(f"{REFERENCE_NAMES.get(name, name)} {score(metric, mean)} %" for name, mean in theirs.items())
    yield f"For reference, {label(metric)}: {shown}."
    unbeaten = [REFERENCE_NAMES[name] for name in REFERENCE_NAMES if name in theirs and theirs[name] >= ours]
    if unbeaten:
        name = sweep.rows[0].name
        yield f"{name} does not beat {' or '.join(unbeaten)}, so this comparison says little about the methods."


def _mean(row: LeaderboardEntry, metric: str) -> float | None:
    found = row.mean(metric)
    return found[0] if found else None


def _matters(sweep: SweepData) -> Iterator[str]:
    shares = importances(sweep)
    if shares.empty:
        return
    path, number = str(shares.index[0]), rests_on(sweep)
    if oob_r2(sweep) <= 0:
        yield f"The {count(number, 'trial')} trained to the end do not tell which of its settings matters."
        return
    hint = ", which is a hint and no more" if number < FEW else ""
    yield (
        f"Of its settings {path} matters most: by itself it explains {percent(shares.iloc[0])} of the score's "
        f"variation over {number} trials{hint}."
    )


def _value(metric: str, value: float, spread: str = "") -> str:
    """A score with its unit."""
    shown = {"points": " %", "million": " million"}.get(unit(metric), "")
    return f"{score(metric, value)}{spread}{shown}"

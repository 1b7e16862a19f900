"""Summary of a sweep: everything that a report says, as page, Markdown or LaTeX."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill import config as configuration
from raydistill.experiments.table import claim_sentences, protocol_note, published_table
from raydistill.records.budget import describe_spent
from raydistill.records.few_labels import NOTE as FEW_LABELS_NOTE
from raydistill.records.few_labels import few_label_table
from raydistill.records.leaderboard import LeaderboardEntry, line, scored, seeds_share
from raydistill.redaction import redact
from raydistill.report.caveats import caveats
from raydistill.report.comparison import baselines, finalists, metrics, paired, sentences
from raydistill.report.conclusion import conclusion
from raydistill.report.formatting import MISSING, count, duration, heading, label, missing, percent, score, setting
from raydistill.report.importance import importances, oob_r2, why_none
from raydistill.report.links import links
from raydistill.report.load import SweepData
from raydistill.report.savings import describe, savings
from raydistill.table import Table
from raydistill.tracking.client import SCORED_AGAIN

LEADERS = 5
PLACES = {"storage": "runs", "artifacts": "artifacts"}
NOTE = (
    "Accuracies in percent, mean ± standard deviation over seeds. Validation chose the winner, so its own validation "
    "score is a little too good; {scored}."
)
SCORED_ONCE = "the test split was scored once, for the rows that have a test score"
OF_EXPERIMENTS = "Accuracies in percent, mean ± standard deviation over seeds; {scored}."
PAIRED = "Differences between means, paired by seed; the intervals are Student's."
UNPAIRED = (
    "Differences between means; where two configurations have no seed in common, the interval is Welch's, else "
    "Student's, paired by seed."
)
OF_SEARCHES = (
    *("search", "metric", "early stopping", "population", "trials asked for", "preset"),
    *("seeds of each trial", "near-equal trials with every seed, at most"),
)
ROLES = ("search", "baseline", "final", "teacher")


@dataclass(frozen=True)
class ScoreSummary:
    """`value` is a number to sort by, None for none; `shown` what is read."""

    value: float | None
    shown: str


@dataclass(frozen=True)
class TrialSummary:
    """One line of the table of all trials; `scores` has one for each metric that the search went by."""

    key: str
    role: str
    outcome: str
    message: str
    scores: list[ScoreSummary]
    epochs: int
    settings: list[str]


@dataclass(frozen=True)
class SweepSummary:
    """A sweep in words and tables.

    `published`: of a published experiment, its numbers beside ours, with the verdicts on its `claims`.
    `few_labels`: scores with few labels, with a note on how they were made in `few_labels_note`.
    `compared`: how the `comparisons` were made. `shares`: of the score's variation, by setting, with what they are
    worth in `worth`; empty, with the reason in `no_shares`, where they cannot be told.
    `commands`: what to type, by what it does. `links`: addresses, by their names.
    """

    sweep: SweepData
    title: str
    conclusion: str
    caveats: list[str]
    final: Table
    note: str
    published: Table
    claims: list[str]
    published_note: str
    few_labels: Table
    few_labels_note: str
    comparisons: Table
    compared: str
    shares: dict[str, str]
    worth: str
    no_shares: str
    savings: str
    space: Table
    trials: list[TrialSummary]
    settings: dict[str, str]
    about: dict[str, str]
    data: dict[str, str]
    environment: dict[str, str]
    commands: dict[str, str]
    links: dict[str, str]


def summarize(sweep: SweepData, *, option: str = "") -> SweepSummary:
    """Everything that a report says; `option` is what its commands need to find the sweep, as ` --tracking-uri …`."""
    return SweepSummary(
        sweep=sweep,
        title=f"{sweep.name}: {sweep.experiment.get('title', sweep.method)} on {sweep.source}",
        conclusion=conclusion(sweep),
        caveats=caveats(sweep),
        final=_final(sweep),
        note=_note(sweep) if sweep.rows else "",
        published=published_table(sweep.experiment, sweep.rows) if sweep.experiment else Table([], []),
        claims=claim_sentences(sweep.experiment, sweep.rows) if sweep.experiment else [],
        published_note=protocol_note(sweep.experiment) if sweep.experiment else "",
        few_labels=few_label_table(sweep.rows),
        few_labels_note=FEW_LABELS_NOTE,
        comparisons=_comparisons(sweep),
        compared=PAIRED if paired(sweep) else UNPAIRED,
        worth=_worth(sweep),
        shares=_shares(sweep),
        no_shares="" if sweep.experiment else why_none(sweep),
        savings=_trained(sweep),
        space=_space(sweep),
        trials=_trials(sweep),
        settings=_winner(sweep),
        about=_about(sweep),
        data=_data(sweep),
        environment=sweep.environment,
        commands=_commands(sweep, option),
        links=links(sweep),
    )


def _final(sweep: SweepData) -> Table:
    """The table at the end of the sweep; before it, the best trials so far."""
    rows = sweep.rows or [_row(sweep, key) for key in sweep.ranked()[:LEADERS]]
    columns = scored(rows, sweep.metrics)
    header = ["configuration", "seeds", "epochs", *map(heading, columns), "settings"]
    return Table(header if rows else [], [line(row, columns) for row in rows])


def _row(sweep: SweepData, key: str) -> LeaderboardEntry:
    settings = {path: value for path in sweep.searched if not missing(value := sweep.setting(key, path))}
    scores = {str(name): value for name in sweep.scores if not missing(value := sweep.score(key, str(name)))}
    return LeaderboardEntry(key, settings, int(sweep.epochs()[key]), [scores])


def _comparisons(sweep: SweepData) -> Table:
    """Table of the winner's differences from its baselines."""
    header = [f"{finalists(sweep)[0].name} against", *map(label, metrics(sweep))] if finalists(sweep) else []
    return Table(header, [[row.name, *sentences(sweep, row)] for row in baselines(sweep)])


def _shares(sweep: SweepData) -> dict[str, str]:
    """The importances by setting; an experiment has searched nothing that they could be of."""
    return {} if sweep.experiment else {str(path): percent(share) for path, share in importances(sweep).items()}


def _trained(sweep: SweepData) -> str:
    """Say what early stopping saved; of an experiment, what was trained."""
    found = savings(sweep)
    if sweep.experiment:
        return f"{count(found.trials, 'run')} trained {count(found.trained, 'epoch')} in all, without teachers."
    return describe(found)


def _worth(sweep: SweepData) -> str:
    """Say how far the importances can be trusted; empty where there are none."""
    if sweep.experiment:
        return ""
    found = oob_r2(sweep)
    if missing(found):
        return ""
    if found <= 0:
        return (
            "From the settings the score of a trial that was left out cannot be predicted (R² out of bag "
            f"−{abs(found):.2f}): take these shares for noise, or for too few trials."
        )
    return f"From the settings {percent(found)} of the variation is predicted in trials left out (R² out of bag)."


def _space(sweep: SweepData) -> Table:
    """Table of the searched settings and the winner's values."""
    body = [
        [path, _range(sweep.spec(path)), setting(sweep.setting(sweep.best, path)) if sweep.best else MISSING]
        for path in sweep.searched
    ]
    return Table(["setting", "searched", "winner" if sweep.rows else "best so far"], body)


def _range(spec: dict[str, Any]) -> str:
    """1 to 500, log; or the values; and the condition."""
    if "values" in spec:
        text = ", ".join(map(setting, spec["values"]))
    elif "min" in spec:
        step = f", in steps of {setting(spec['q'])}" if spec.get("q") else ""
        log = ", log" if "log" in spec.get("distribution", "") else ""
        text = f"{setting(spec['min'])} to {setting(spec['max'])}{step}{log}"
    else:
        text = MISSING
    conditions = [f"{path} is {' or '.join(map(setting, values))}" for path, values in spec.get("when", {}).items()]
    return f"{text}; where {' and '.join(conditions)}" if conditions else text


def _trials(sweep: SweepData) -> list[TrialSummary]:
    """The search first, then the final, then teachers."""
    epochs = sweep.epochs()
    return [_trial(sweep, key, int(epochs[key])) for role in ROLES for key in sweep.role(role)]


def _trial(sweep: SweepData, key: str, epochs: int) -> TrialSummary:
    told = {name: str(sweep.trials[name][key]) for name in ("role", "outcome", "message", "copies")}
    return TrialSummary(
        key=key,
        role=told["role"],
        outcome=told["outcome"].replace("_", " "),
        message="; ".join(text for text in (told["message"], told["copies"]) if text),
        scores=[_score(name, sweep.score(key, name)) for name in sweep.metrics],
        epochs=epochs,
        settings=[setting(sweep.setting(key, path)) for path in sweep.searched],
    )


def _score(metric: str, value: float) -> ScoreSummary:
    return ScoreSummary(None if missing(value) else value, score(metric, value))


def _winner(sweep: SweepData) -> dict[str, str]:
    """All settings of the run that won."""
    if sweep.winner is None:
        return {}
    params = sweep.params.loc[sweep.winner]
    return {str(path): redact(setting(value)) for path, value in params.items() if not missing(value)}


def _note(sweep: SweepData) -> str:
    """Say how the scores of the final table were made."""
    once = "the test split was scored once" if sweep.experiment else SCORED_ONCE
    note = OF_EXPERIMENTS if sweep.experiment else NOTE
    return note.format(scored=sweep.tags.get(SCORED_AGAIN) or once) + _seeds(sweep)


def _seeds(sweep: SweepData) -> str:
    """Sentence on what the seeds share; empty where that is nothing, or the method is not installed here."""
    try:
        base = configuration.load(sweep.identity.get("base", {}))
    except configuration.ConfigError:
        return ""
    shared = seeds_share(base, redrawn=bool(sweep.identity.get("redraw_teachers")))
    return f" The {shared}." if shared else ""


def _about(sweep: SweepData) -> dict[str, str]:
    space = sweep.identity.get("space", {})
    stop, population = space.get("early_terminate"), space.get("population")
    search = " ".join(filter(None, [space.get("method"), space.get("sampler")]))
    found = {
        "method": sweep.method,
        "outcome": sweep.outcome,
        "started": f"{sweep.started:%Y-%m-%d %H:%M} UTC",
        "took": duration(sweep.spent.hours * 3600 if sweep.spent else sweep.seconds),
        "search": search,
        "metric": ", ".join(f"{goal} {name}" for name, goal in sweep.objectives),
        "early stopping": _typed(stop) if stop else "none",
        "population": _typed(population) if population else "",
        "trials asked for": setting(sweep.identity.get("trials", "")),
        "seeds": setting(sweep.identity.get("seeds", "")),
        "seeds of each trial": setting(sweep.seeds_per_trial) if sweep.seeds_per_trial > 1 else "",
        "near-equal trials with every seed, at most": setting(sweep.identity.get("finalists", "")),
        "preset": sweep.identity.get("preset", ""),
        "spent": describe_spent(sweep.spent) if sweep.spent else "",
        "tracked in": redact(sweep.uri),
    }
    if sweep.experiment:
        found = {name: value for name, value in found.items() if name not in OF_SEARCHES}
    return {name: value for name, value in found.items() if value and value != MISSING}


def _typed(spec: dict[str, Any]) -> str:
    """asha, min_iter 2, eta 3."""
    return ", ".join([spec["type"], *(f"{name} {setting(value)}" for name, value in spec.items() if name != "type")])


def _data(sweep: SweepData) -> dict[str, str]:
    fraction = sweep.base("data.validation_fraction")
    divided = "the labelled images" if "labelled" in sweep.images else "train"
    found = {
        "source": redact(str(sweep.base("data.source") or "")),
        "labelled source": redact(str(sweep.base("data.labelled") or "")),
        "images": ", ".join(f"{number} {split}" for split, number in sweep.images.items()),
        "split": fraction
        and f"seed {sweep.base('data.split_seed', 0)}; for validation {percent(fraction)} of {divided} "
        "where the source has no such split",
        "image size": sweep.tags.get("raydistill.image_size") or setting(sweep.base("data.image_size") or "its own"),
        "batch size": setting(sweep.base("data.batch_size", "")),
        "at most of each split": setting(sweep.base("data.limit") or ""),
        "broken images": sweep.base("data.on_bad_image"),
    }
    return {name: value for name, value in found.items() if value}


def _commands(sweep: SweepData, option: str) -> dict[str, str]:
    found = {"run the sweep": sweep.command} if sweep.command else {}
    if sweep.rows and sweep.experiment:
        storage = _elsewhere(sweep, "storage", PLACES["storage"])
        run = next((row.runs[0] for row in sweep.rows if row.runs), "")
        found["export an arm's encoder"] = f"raydistill export {sweep.name}/{run} --format timm{storage}{option}"
    elif sweep.rows:
        storage, artifacts = (_elsewhere(sweep, name, folder) for name, folder in PLACES.items())
        found["train the winner again"] = f"raydistill train {sweep.name}{storage}{artifacts}{option}"
        found["export the winner"] = f"raydistill export {sweep.name} --format timm{storage}{option}"
    found["write this report"] = f"raydistill report {sweep.name}{option}"
    address = redact(sweep.uri)
    if not address.startswith("http"):  # a server is there already
        found["compare the trials in MLflow"] = f"mlflow ui --backend-store-uri {shlex.quote(address)}"
    return found


def _elsewhere(sweep: SweepData, name: str, folder: str) -> str:
    """The flag of a place that is not where commands look by themselves."""
    place = redact(sweep.tags.get(f"raydistill.{name}", ""))
    return "" if place in ("", str(Path.cwd() / folder)) else f" --{name} {shlex.quote(place)}"

"""Synchronisation of MLflow with a sweep's folder: while it runs, after a resume, and afterwards."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from raydistill.records.budget import Budget, Limits
from raydistill.records.journal import (
    FINAL,
    TrialRecord,
    apply_event,
    read_events,
    read_finals,
    role_of,
    scored_again,
)
from raydistill.records.layout import (
    BUDGET_FILE,
    EXPERIMENT_FILE,
    IMAGES_FILE,
    JOURNAL_FILE,
    RESULTS_FILE,
    SHEET_FILE,
    TABLE_FILE,
    TRAJECTORIES_FILE,
    WINNER_CONFIG_FILE,
)
from raydistill.records.leaderboard import COLUMNS, LeaderboardEntry, baselines, cells, references
from raydistill.records.scores import read_scores
from raydistill.redaction import redact_values
from raydistill.storage import StoragePath
from raydistill.tracking.client import ADDED, DIGEST, ROLE, SCORED_AGAIN, SETTINGS
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import PICTURES, newest, winner_of

COMPARED = tuple(column for column in COLUMNS if column not in ("loss", "student_parameters"))


def sweep_tags(identity: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """Parameters and tags of the sweep's own run, for a `Tracker`.

    Args:
        identity: `sweep.yaml`.
        origin: `origin.json`, what was typed and where, a tag for each key; empty where a sweep has none.
    """
    digest = (identity.get("images") or {}).get("digest")
    return {
        "params": flatten(identity["base"]) | {"trials": identity["trials"], "seeds": identity["seeds"]},
        "tags": {"raydistill.method": identity["base"]["method"]["name"]}
        | ({DIGEST: str(digest)} if digest else {})
        | {f"raydistill.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in redact_values(origin).items()},
    }


# docs/architecture.md#mlflow-from-the-sweeps-folder
def log_trials(tracker: Tracker, journal: StoragePath) -> dict[str, TrialRecord]:
    """All that a journal holds, at the time when it happened; what the tracker has it leaves out."""
    trials: dict[str, TrialRecord] = {}
    for event in read_events(journal):
        apply_event(trials, event)
        if event["event"] == FINAL:
            continue
        record, when = trials[event["key"]], moment(event)
        tracker.wait_for_loggers()
        match event["event"]:
            case "trial":
                log_start(tracker, record, when)
            case "result":
                tracker.log(record.key, event["epoch"], event["metrics"], when)
            case "copy":
                log_copy(tracker, record, when)
            case "end":
                tracker.end_trial(record.key, event["outcome"], event["message"], when)
    return trials


def log_start(tracker: Tracker, record: TrialRecord, when: int | None = None) -> None:
    """Log a trial with its settings and its role.

    Args:
        tracker: receives it.
        record: the trial.
        when: milliseconds since 1970; None: now.
    """
    added = {ADDED: "by hand"} if record.added else {}
    tracker.start_trial(record.key, flatten(record.config), {ROLE: role_of(record.key), **added}, when)


def log_copy(tracker: Tracker, record: TrialRecord, when: int | None = None) -> None:
    """Log that a population's trial went on with another's weights and other settings.

    Args:
        tracker: receives it.
        record: the trial.
        when: milliseconds since 1970; None: now.
    """
    copies = "; ".join(map(str, record.copies))
    tracker.tag(record.key, {"raydistill.copies": copies, SETTINGS: json.dumps(record.settings)})
    tracker.log(record.key, record.copies[-1].epoch, _numbers(record.settings), when)


def log_scores(tracker: Tracker, record: TrialRecord, directory: StoragePath, when: int | None = None) -> None:
    """Log the scores of a selected trial, those on the test split included, and its checkpoint where there is one.

    Args:
        tracker: receives them.
        record: the trial.
        directory: of the trial.
        when: milliseconds since 1970; None: now.
    """
    if scores := read_scores(directory):
        epoch = scores.checkpoint["epoch"] if scores.checkpoint else record.epochs
        # What a trial reports is the mean of its seeds, and stays so.
        values = {name: value for name, value in scores.values.items() if not record.seed_scores(name)}
        known = record.latest()
        tracker.score(record.key, epoch, values, {k: v for k, v in values.items() if k not in known}, when)
    pictures = directory / PICTURES
    if pictures.exists():
        tracker.artifact(record.key, pictures, PICTURES)
    checkpoint = newest(directory)
    if checkpoint is not None:
        for part in (checkpoint, checkpoint.with_suffix(".json")):
            tracker.artifact(record.key, part, "checkpoint")


def log_conclusion(tracker: Tracker, folder: StoragePath, when: int | None = None) -> None:
    """Log the winner, the leaderboard, and what the sweep used.

    Args:
        tracker: receives them.
        folder: of the sweep.
        when: milliseconds since 1970; None: now.
    """
    for name in (WINNER_CONFIG_FILE, TABLE_FILE, RESULTS_FILE, IMAGES_FILE, SHEET_FILE):
        tracker.artifact(None, folder / name)
    for name in (EXPERIMENT_FILE, TRAJECTORIES_FILE):
        if (folder / name).exists():
            tracker.artifact(None, folder / name)
    rows = [LeaderboardEntry(**row) for row in json.loads((folder / RESULTS_FILE).read_text())]
    # A sweep that went on with a larger budget may have another winner.
    step = json.loads((folder / BUDGET_FILE).read_text())["epochs"] if (folder / BUDGET_FILE).exists() else 0
    compared = list(zip(("winner", "baseline"), [rows[0], *baselines(rows)[:1]], strict=False))
    for prefix, row in compared + [(row.name, row) for row in references(rows)]:
        means = {m: row.mean(m) for m in COMPARED}
        tracker.log_parent({f"{prefix}_{metric}": mean[0] for metric, mean in means.items() if mean}, step, when)
    table = cells(rows, ())
    tracker.table(table.header, redact_values(table.body))
    if (winner := winner_of(folder)) is not None:
        tracker.tag_parent({"raydistill.winner": winner.name})
    if again := scored_again(read_finals(folder / JOURNAL_FILE)):
        tracker.tag_parent({SCORED_AGAIN: again})
    if (folder / BUDGET_FILE).exists():
        values = json.loads((folder / BUDGET_FILE).read_text())
        spent = Budget.from_dict(values, Limits(**values["limits"]), clock=lambda: 0.0).spent()
        tracker.tag_parent({"raydistill.spent": json.dumps(asdict(spent))})


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted path, as MLflow shows them."""
    return {f"{section}.{key}": value for section, values in config.items() for key, value in values.items()}


def moment(event: dict[str, Any]) -> int | None:
    """Return the time of an event in milliseconds since 1970; None in a journal without times."""
    return round(event["time"] * 1000) if "time" in event else None


def _numbers(settings: dict[str, Any]) -> dict[str, float]:
    """The searched settings that are numbers, as metrics: a population changes them on the way."""
    return {
        f"setting/{path}": float(value)
        for path, value in settings.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }

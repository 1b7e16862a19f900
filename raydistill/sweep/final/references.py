"""The reference rows of the table, scored beside the final runs and kept in the sweep's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.artifacts.teachers import trained_epochs
from raydistill.evaluation.references import Rows, score_references
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import REFERENCES_FILE
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.scores import identity
from raydistill.sweep.driver import Driver
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import newest, write_atomically


def start_references(
    settings: SweepSettings, driver: Driver, winner: list[TrialRecord]
) -> Callable[[], list[LeaderboardEntry]]:
    """Start scoring what the winner has to beat. Returns: a function that waits for the rows of the table.

    A sweep that is resumed reads them again, unless the winner or its checkpoints are others. Rows that cannot be
    scored are left out with a warning; the sweep's own scores do not depend on them.

    Args:
        settings: the sweep.
        driver: runs the scoring task.
        winner: its final runs, one for each seed.
    """
    if not winner:
        return list
    path = driver.directory / REFERENCES_FILE
    made = _made_from(driver, winner)
    if path.exists() and (known := _read(path.read_text())) and known.get("of") == made:
        kept = [LeaderboardEntry(**row) for row in known["rows"]]
        return lambda: kept
    runs = [(record.spec.config, str(driver.trial_directory(record.key))) for record in winner]
    teachers = [record.spec.teachers or () for record in winner]
    task = ray.remote(num_cpus=1, num_gpus=1 if settings.gpu else 0)(score_references)
    pending = task.remote(runs, teachers, str(settings.artifacts), threads=1, gpu=bool(settings.gpu))

    def wait() -> list[LeaderboardEntry]:
        try:
            found: Rows = ray.get(pending)
        except ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines()[-1]
            driver.progress.note(f"warning: raw pixels, untrained student and teacher could not be scored: {cause}")
            return []
        epochs = _teacher_epochs(settings, winner)
        rows = [_entry(name, scores, winner[0], epochs) for name, scores in found.items()]
        values = {"of": made, "rows": [asdict(row) for row in rows]}
        write_atomically(path, json.dumps(values, indent=1).encode())
        return rows

    return wait


def _made_from(driver: Driver, winner: list[TrialRecord]) -> dict[str, Any]:
    """Return what the rows follow from: the winner's configuration, its teachers and its checkpoints."""
    keys = [key for record in winner for key in record.spec.teachers or ()]
    return {
        "config": configuration.dump(winner[0].spec.config),
        "teachers": list(dict.fromkeys(keys)),
        "runs": {record.key: identity(newest(driver.trial_directory(record.key))) for record in winner},
    }


def _read(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):  # torn
        return {}


def _teacher_epochs(settings: SweepSettings, winner: list[TrialRecord]) -> int:
    """Epochs of the teachers' training; of teachers that were trained until their score settled, the most."""
    config = winner[0].spec.config
    if config.teacher.patience is None:
        return config.teacher_epochs
    store = open_store(settings.artifacts)
    found = [trained_epochs(store, key) for record in winner for key in record.spec.teachers or ()]
    return max(filter(None, found), default=config.teacher_epochs)


def _entry(name: str, scores: list[dict[str, float]], winner: TrialRecord, epochs: int) -> LeaderboardEntry:
    """Make a row; a teacher that was trained for the sweep says with what.

    Args:
        name: of the row.
        scores: one mapping an entry.
        winner: one of its final runs.
        epochs: of the teachers' training.
    """
    teacher = winner.spec.config.teacher
    if not name.startswith("teacher") or teacher.sources:
        return LeaderboardEntry(name, {}, 0, scores)
    return LeaderboardEntry(name, {"teacher.backbone": teacher.backbone}, epochs, scores)

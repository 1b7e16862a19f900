"""The reference rows of the table, scored beside the final runs and kept in the sweep's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import ray

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.artifacts.teachers import trained_epochs
from raydistill.config import ConfigError
from raydistill.evaluation.references import Rows, score_references
from raydistill.records.layout import REFERENCES_FILE
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.scores import identity
from raydistill.redaction import redact
from raydistill.sweep.driver import Driver
from raydistill.sweep.final.teacher_rows import Referred, TeacherRow
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import newest, write_atomically

STUDENTS = ("pixels", "untrained")
ROWS_PER_TASK = 4  # as many as one student with one or two teachers has; another process takes seconds to start
Known = dict[str, LeaderboardEntry]


def start_references(settings: SweepSettings, driver: Driver, refer: Referred) -> Callable[[], list[LeaderboardEntry]]:
    """Start scoring what the winner has to beat. Returns: a function that waits for the rows of the table.

    A sweep that is resumed reads again what it has scored, unless what a row follows from is another now. Rows that
    cannot be scored are left out with a warning; the sweep's own scores do not depend on them.

    Args:
        settings: the sweep.
        driver: runs the scoring tasks.
        refer: whose references they are.
    """
    if not refer.runs:
        return list
    path = driver.directory / REFERENCES_FILE
    made = _made_from(driver, refer)
    rows = {row.name: row.keys for row in refer.teachers}
    known = kept_rows(_read(path.read_text()), made) if path.exists() else {}
    missing = [name for name in (*STUDENTS, *rows) if name not in known]
    runs = [(record.spec.config, str(driver.trial_directory(record.key))) for record in refer.runs]
    teachers = [tuple(record.spec.teachers or ()) for record in refer.runs]
    task = ray.remote(num_cpus=1, num_gpus=1 if settings.gpu else 0)(score_references)
    where: dict[str, Any] = {"threads": 1, "gpu": bool(settings.gpu), "rows": rows}
    parts = [missing[start : start + ROWS_PER_TASK] for start in range(0, len(missing), ROWS_PER_TASK)]
    pending = [(part, task.remote(runs, teachers, str(settings.artifacts), only=part, **where)) for part in parts]

    def wait() -> list[LeaderboardEntry]:
        for part, result in pending:
            try:
                found: Rows = ray.get(result)
            except ray.exceptions.RayError as error:
                cause = str(error).strip().splitlines()[-1]
                driver.progress.note(f"warning: the references {', '.join(part)} could not be scored: {cause}")
                continue
            for name, scores in found.items():
                known[name] = _entry(settings, refer, name, scores)
            ordered = [known[name] for name in (*STUDENTS, *rows) if name in known]
            values = {"of": made, "rows": [asdict(row) for row in ordered]}
            write_atomically(path, json.dumps(values, indent=1).encode())
        return [known[name] for name in (*STUDENTS, *rows) if name in known]

    return wait


def kept_rows(stored: dict[str, Any], made: dict[str, Any]) -> Known:
    """Rows of before that follow from the same as now, by their present names.

    Args:
        stored: content of the file.
        made: what the rows follow from now, as `_made_from` has it.
    """
    then, rows = stored.get("of"), {row["name"]: LeaderboardEntry(**row) for row in stored.get("rows", ())}
    if not isinstance(then, dict) or _protocol(then.get("config")) != _protocol(made["config"]):
        return {}
    known: Known = {}
    if "pixels" in rows:
        known["pixels"] = rows["pixels"]
    same_runs = all(then.get(part) == made[part] for part in ("runs", "teachers"))
    if "untrained" in rows and same_runs and _filled(then["config"]) == _filled(made["config"]):
        known["untrained"] = rows["untrained"]
    before = then.get("rows")
    if before is None:  # the names of a version that scored one configuration's teachers
        before = made["rows"] if then.get("teachers") == made["teachers"] else {}
    by_keys = {tuple(keys): rows[name] for name, keys in before.items() if name in rows}
    for name, keys in made["rows"].items():
        if (row := by_keys.get(tuple(keys))) is not None:
            known[name] = replace(row, name=name)
    return known


def _protocol(config: Any) -> dict[str, Any]:
    """Return the settings that decide how a network is scored, and on which images."""
    values = _filled(config)
    return {name: values.get(name) for name in ("data", "eval")} | {"seed": values.get("train", {}).get("seed")}


def _filled(config: Any) -> dict[str, Any]:
    """Return a stored configuration with the settings that came after it."""
    with suppress(ConfigError):
        return configuration.dump(configuration.load(config))
    return dict(config or {})


def _made_from(driver: Driver, refer: Referred) -> dict[str, Any]:
    """Return what the rows follow from: the configuration, its teachers and checkpoints, and the keys of each row."""
    keys = [key for record in refer.runs for key in record.spec.teachers or ()]
    return {
        "config": configuration.dump(refer.runs[0].spec.config),
        "teachers": list(dict.fromkeys(keys)),
        "runs": {record.key: identity(newest(driver.trial_directory(record.key))) for record in refer.runs},
        "rows": {row.name: list(row.keys) for row in refer.teachers},
    }


def _read(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):  # torn
        return {}


def _entry(settings: SweepSettings, refer: Referred, name: str, scores: list[dict[str, float]]) -> LeaderboardEntry:
    """Make a row; that of a teacher says where it is from where there are several.

    Args:
        settings: the sweep.
        refer: whose references they are.
        name: of the row.
        scores: one mapping an entry.
    """
    row = next((row for row in refer.teachers if row.name == name), None)
    if row is None:
        return LeaderboardEntry(name, {}, 0, scores)
    teacher = row.taught.spec.config.teacher
    if teacher.sources:
        called = [settings.teachers[key] for key in row.keys if key in settings.teachers]
        told = {"teacher.source": redact(", ".join(called))} if called and len(refer.teachers) > 1 else {}
        return LeaderboardEntry(name, told, 0, scores)
    about = {"teacher.backbone": teacher.backbone}
    if settings.arms and len(refer.teachers) > 1:
        about["teacher.method"] = teacher.method
    return LeaderboardEntry(name, about, _teacher_epochs(settings, row), scores)


def _teacher_epochs(settings: SweepSettings, row: TeacherRow) -> int:
    """Epochs of a teacher's training; of teachers that were trained until their score settled, the most."""
    config = row.taught.spec.config
    if config.teacher.patience is None:
        return config.teacher_epochs
    store = open_store(settings.artifacts)
    found = [trained_epochs(store, key) for key in row.keys]
    return max(filter(None, found), default=config.teacher_epochs)

"""MLflow's runs as data frames, with the types that they had before MLflow wrote them down as text."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from raydistill.redaction import redact
from raydistill.report.formatting import missing, setting
from raydistill.tracking.client import MESSAGE, OUTCOME, ROLE, SETTINGS
from raydistill.training.messages import SEED_PREFIX

# The load of a machine, the numbers that a population changed, and what a trial's mean is made of.
NOT_SCORES = ("system/", "setting/", SEED_PREFIX)


def params(children: list[Any], keys: pd.Index) -> pd.DataFrame:
    """All settings of each trial, of a population's as its last copy left them.

    MLflow keeps the first value of a parameter for good, so a copy's settings are a tag.
    """
    rows = [{k: _value(v) for k, v in run.data.params.items()} | _copied(run) for run in children]
    return pd.DataFrame(rows, keys, dtype=object)


def metrics(children: list[Any], keys: pd.Index) -> pd.DataFrame:
    """The last value of each trial's metrics."""
    return pd.DataFrame([run.data.metrics for run in children], index=keys, dtype=float)


def scores(found: pd.DataFrame) -> pd.DataFrame:
    """The columns of `metrics` that say how good a trial is, or how fast."""
    return found[[name for name in found if not str(name).startswith(NOT_SCORES)]]


def trials(children: list[Any], keys: pd.Index) -> pd.DataFrame:
    """Frame of the trials: role, outcome, message, start and duration."""
    rows = [
        {
            "role": run.data.tags.get(ROLE, ""),
            "outcome": run.data.tags.get(OUTCOME, ""),
            "message": redact(run.data.tags.get(MESSAGE, "")),
            "copies": run.data.tags.get("raydistill.copies", ""),
            "started": pd.to_datetime(run.info.start_time, unit="ms"),
            "seconds": seconds(run),
            "run_id": run.info.run_id,
        }
        for run in children
    ]
    columns = ["role", "outcome", "message", "copies", "started", "seconds", "run_id"]
    return pd.DataFrame(rows, index=keys, columns=columns)


def seconds(run: Any) -> float:
    """Wall time of a run in seconds, with pauses before a resume; nan for a run that has not ended."""
    ended = run.info.end_time if run.data.tags.get(OUTCOME) != "running" else None
    return (ended - run.info.start_time) / 1000 if ended else float("nan")


def searched(params: pd.DataFrame, space: dict[str, Any]) -> pd.DataFrame:
    """The searched columns of `params`, without those that no trial uses.

    Of a file that is not there yet, those that differ between trials.
    """
    if not space:
        differ = [name for name in params if params[name].astype(str).nunique() > 1]
        return params[[name for name in differ if name != "train.offsets"]]
    several = [path for path, spec in space.items() if len(spec.get("values", [0, 0])) > 1 and "value" not in spec]
    found = params.reindex(columns=list(space)).astype(object)
    # Parents come before the settings that depend on them, so that what hangs on a missing one is missing as well.
    for path, spec in space.items():
        for parent, values in spec.get("when", {}).items():
            # Compared as text: MLflow does not tell `none`, a name, from none at all.
            wanted = set(map(setting, values))
            found.loc[[setting(value) not in wanted for value in found[parent]], path] = float("nan")
    used = [path for path in several if not len(found) or not all(map(missing, found[path]))]
    return pd.DataFrame({path: _typed(found[path]) for path in used}, index=params.index)


def _typed(column: pd.Series) -> pd.Series:
    """Numbers as numbers; but beside a missing value pandas would make 1024 to 1024.0, and None to nan."""
    whole = any(value is None or isinstance(value, int) for value in column)
    return column if whole and column.isna().any() else column.infer_objects()


def _copied(run: Any) -> dict[str, Any]:
    found: dict[str, Any] = parsed(run.data.tags.get(SETTINGS)) or {}
    return found


def parsed(text: str | None) -> Any:
    """Parse the value of a tag; None without one, and for a value that was too long to be stored whole."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def _value(text: str) -> Any:
    """A setting as it was before MLflow wrote it down as text."""
    if text in ("none", "True", "False"):
        return {"none": None, "True": True, "False": False}[text]
    try:
        return json.loads(text)
    except ValueError:
        return text

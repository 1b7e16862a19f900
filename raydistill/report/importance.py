"""Importance of settings: the share of the score's variation that each searched setting explains by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pandas as pd

from raydistill.report.formatting import is_number, missing, setting
from raydistill.report.load import SweepData

MIN_TRIALS = 4  # finished trials
TREES, JUDGES = 64, 256


@lru_cache(maxsize=8)
def importances(sweep: SweepData) -> pd.Series:
    """Share of each searched setting, largest first; empty where `why_none` says why.

    Optuna's fANOVA over the finished trials: a forest of regression trees learns the score from the settings, and a
    setting's share of the forest's variance is that of its mean along it, alone. What is left to 1 belongs to settings
    together, or is noise that the forest has learned: `oob_r2` says how much of it is not. Numbers on a log scale
    are taken as logarithms. Where a condition leaves a setting out it is set to the middle of its values, so that the
    trees see no change in it.
    """
    if why_none(sweep):
        return pd.Series(dtype=float, name="share")
    from optuna.importance import FanovaImportanceEvaluator

    found = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(_study(sweep))  # not scaled to 1 in all
    return pd.Series({path: float(share) for path, share in found.items()}, name="share").sort_values(ascending=False)


@lru_cache(maxsize=8)
def oob_r2(sweep: SweepData) -> float:
    """The share of the score's variation that a forest foretells from the settings of trials that it was not shown.

    Its out-of-bag R squared, at most 1; 0 or less where it does no better than the mean, so that importances are of
    noise; nan where there are no importances.
    """
    if why_none(sweep):
        return math.nan
    from sklearn.ensemble import RandomForestRegressor

    keys = sweep.ranked()
    columns = pd.DataFrame({path: _column(sweep, path, keys) for path in _varied(sweep, keys)})
    forest = RandomForestRegressor(JUDGES, oob_score=True, random_state=0)
    return float(forest.fit(pd.get_dummies(columns), [sweep.score(key) for key in keys]).oob_score_)


def rests_on(sweep: SweepData) -> int:
    """Number of trials that importances rest on: those with all their epochs and a score."""
    return len(sweep.ranked())


def why_none(sweep: SweepData) -> str:
    """Return why there are no importances, in a sentence; empty where there are."""
    keys = sweep.ranked()
    if len(keys) < MIN_TRIALS:
        return f"Importances need at least {MIN_TRIALS} trials that were trained to the end; there are {len(keys)}."
    if sweep.scores.loc[keys, sweep.metric].nunique() < 2:
        return "All trials that were trained to the end have the same score."
    if not _varied(sweep, keys):
        return "The trials that were trained to the end do not differ in their settings."
    return ""


def _varied(sweep: SweepData, keys: list[str]) -> list[str]:
    """The settings that take more than one value among the trials."""
    values = {
        path: {setting(value) for key in keys if not missing(value := sweep.setting(key, path))}
        for path in sweep.searched
    }
    return [path for path, found in values.items() if len(found) > 1]


def _study(sweep: SweepData) -> Any:
    """A study of the finished trials, in memory; its space is what the trials took up."""
    import optuna

    keys = sweep.ranked()
    columns = {path: _column(sweep, path, keys) for path in _varied(sweep, keys)}
    spaces = {path: _space(values) for path, values in columns.items()}
    shown = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=sweep.goal)
    optuna.logging.set_verbosity(shown)
    for i, key in enumerate(keys):
        params = {path: values[i] for path, values in columns.items()}
        value = sweep.score(key)
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=value))
    return study


def _column(sweep: SweepData, path: str, keys: list[str]) -> list[Any]:
    """A setting's value in each trial: numbers, logarithms of those on a log scale, or texts."""
    raw = [sweep.setting(key, path) for key in keys]
    read: Callable[[Any], Any] = setting
    if all(map(is_number, raw)):
        read = math.log if log_scaled(sweep, path) else float
    there = sorted(read(value) for value in raw if not missing(value))
    return [there[len(there) // 2] if missing(value) else read(value) for value in raw]


def _space(values: list[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(values[0], str):
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(min(values), max(values))


def log_scaled(sweep: SweepData, path: str) -> bool:
    """Return whether a number is best seen in its logarithm: by the space, or because it spans over 1.5 decades."""
    spec = sweep.spec(path)
    if "log" in spec.get("distribution", ""):
        return True
    ends = [spec["min"], spec["max"]] if "min" in spec and "max" in spec else spec.get("values")
    values = ends or [value for value in sweep.settings[path].tolist() if not missing(value)]
    return bool(values) and all(map(is_number, values)) and min(values) > 0 and max(values) / min(values) > 10**1.5

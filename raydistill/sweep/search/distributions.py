"""Searched parameters as Optuna has them."""

from __future__ import annotations

import json
from typing import Any

from raydistill.sweep.search.space import Parameter


def suggest(trial: Any, parameter: Parameter) -> Any:
    """A value that an Optuna trial proposes."""
    kind = distribution_of(parameter)
    if parameter.values:
        return json.loads(trial.suggest_categorical(parameter.path, kind.choices))
    if parameter.distribution == "int_uniform":
        return trial.suggest_int(parameter.path, kind.low, kind.high)
    value = trial.suggest_float(parameter.path, kind.low, kind.high, log=kind.log)
    return value if parameter.q is None else parameter.round(value)


def distribution_of(parameter: Parameter) -> Any:
    """Return a parameter as Optuna sees it; values that are not plain numbers or names go as JSON."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high = parameter.low, parameter.high
    if low is None or high is None:
        return CategoricalDistribution([json.dumps(value) for value in parameter.values])
    if parameter.distribution == "int_uniform":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=parameter.distribution in ("log_uniform_values", "q_log_uniform_values"))


def asked(parameter: Parameter, value: Any) -> Any:
    """A value as Optuna asks for it."""
    return json.dumps(value) if parameter.values else value

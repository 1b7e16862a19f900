"""Warm start: results of earlier sweeps, as far as they say something about a new one."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from raydistill import config as configuration
from raydistill.config import ConfigError
from raydistill.records.journal import TrialRecord, read_records, role_of
from raydistill.records.layout import JOURNAL_FILE, SWEEP_FILE
from raydistill.storage import StoragePath
from raydistill.sweep.search.samplers import PriorTrials, Settings
from raydistill.sweep.search.space import Parameter
from raydistill.sweep.settings import SweepSettings, other_images

HINTS = 3


def load_prior_trials(settings: SweepSettings) -> PriorTrials:
    """Finished trials of the sweeps in `settings.warm_start`.

    One whose whole configuration this sweep could have tried, on the same images, counts as a result; of the others
    that lie in the space the best of each sweep are hints, tried first. A number that this space's list lacks becomes
    the nearest one of the list.

    Raises: ConfigError for a directory without a sweep.
    """
    found = PriorTrials()
    sign = 1 if settings.space.goal == "maximize" else -1
    for directory in settings.warm_start:
        alike = not other_images(images_of(directory) or settings.contents, settings.contents)
        others: list[tuple[float, Settings]] = []
        for record in _finished(directory):
            config = _complete(record.config)
            chosen = _in_space(settings, config)
            metrics = record.latest()
            if chosen is None:
                continue
            same = alike and configuration.dump(settings.resolve(chosen)) == config
            if same and all(name in metrics for name, _ in settings.space.objectives):
                found.results.append((chosen, metrics))
            elif settings.space.metric in metrics:
                others.append((sign * metrics[settings.space.metric], chosen))
        others.sort(key=lambda pair: pair[0], reverse=True)
        best = [chosen for i, (_, chosen) in enumerate(others) if all(chosen != other for _, other in others[:i])]
        found.hints.extend(chosen for chosen in best[:HINTS] if chosen not in found.hints)
    return found


def images_of(directory: StoragePath) -> dict[str, Any]:
    """Numbers and digest of a sweep's images; empty for sweeps that do not say."""
    path = directory / SWEEP_FILE
    stored = configuration.read_yaml(path) if path.exists() else None
    found = stored.get("images") if isinstance(stored, dict) else None
    return found if isinstance(found, dict) else {}


def _finished(directory: StoragePath) -> list[TrialRecord]:
    journal = directory / JOURNAL_FILE
    if not journal.exists():
        raise ConfigError(f"--warm-start: there is no sweep in {directory}")
    records = read_records(journal).values()
    return [r for r in records if r.outcome == "finished" and not r.copies and role_of(r.key) == "search"]


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with every setting; those that came after its sweep's version have their defaults."""
    with suppress(ConfigError):
        return configuration.dump(configuration.load(config))
    return config


def _in_space(settings: SweepSettings, config: dict[str, Any]) -> Settings | None:
    """The searched part of a configuration of the same method, if the space has it."""
    if config["method"]["name"] != settings.base.method.name:
        return None
    chosen: Settings = {}
    for parameter in settings.space.parameters:
        if settings.space.is_active(parameter, chosen):
            section, _, name = parameter.path.partition(".")
            chosen[parameter.path] = _nearest(parameter, config[section].get(name))
    return chosen if settings.space.contains(chosen) else None


def _nearest(parameter: Parameter, value: Any) -> Any:
    """The value, or the nearest number of a list that lacks it: by their ratio where both are above 0."""
    if parameter.contains(value) or not _is_number(value):
        return value
    numbers = [listed for listed in parameter.values if _is_number(listed)]

    def distance(listed: float) -> tuple[int, float]:
        return (0, abs(math.log(listed / value))) if listed > 0 and value > 0 else (1, abs(listed - value))

    return min(numbers, key=distance, default=value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Another number of trials for a sweep that has begun: what a resume may change, and what it refuses."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import Any

from raydistill import config as configuration
from raydistill.config import ConfigError
from raydistill.records.journal import read_records, role_of
from raydistill.records.layout import JOURNAL_FILE, SWEEP_FILE
from raydistill.storage import StoragePath

Identity = dict[str, Any]


def stored_trials(directory: StoragePath) -> int | None:
    """The number of trials that a sweep was asked for; of an experiment, that of each arm's search.

    Returns: None where there is no sweep, or its file is damaged.
    """
    path, stored = directory / SWEEP_FILE, None
    if path.exists():
        with suppress(ConfigError):
            stored = configuration.read_yaml(path)
    trials = _searching(stored).get("trials") if isinstance(stored, dict) else None
    return trials if isinstance(trials, int) else None


# docs/architecture.md#more-trials-for-a-finished-sweep
def allow_other_numbers(directory: StoragePath, stored: Identity, now: Identity) -> None:
    """Give `stored` the numbers of trials of `now` where they may differ, so that they do not count as a change.

    A search may go on beyond what it was asked for, or end sooner, but not before what it has begun. An experiment
    without a search has no such number. The baselines' number may only change together with that of the method, so
    that no arm gets more by mistake.

    Args:
        directory: of the sweep.
        stored: what it was started with; is changed.
        now: what it is asked for now.

    Raises:
        ConfigError: fewer trials than have begun, or another size of a population.
    """
    before, after = _searching(stored), _searching(now)
    if before.get("trials") == after["trials"] or not before.get("trials") or not after["trials"]:
        return
    if "population" in now["space"]:
        raise ConfigError(
            f"--trials {after['trials']}: a population trains all its trials side by side, so sweep "
            f"{directory.name!r} keeps its {before['trials']}; give those, or another --name for a sweep of its own"
        )
    path = directory / JOURNAL_FILE
    begun = Counter(map(_search_of, read_records(path) if path.exists() else ()))
    own = begun.pop("", 0)
    others = max((count for name, count in begun.items() if name), default=0)
    if "experiment" in now:
        _refuse_fewer("--trials", after["trials"], others, directory.name, warm_start=False)
    else:
        _refuse_fewer("--trials", after["trials"], own, directory.name)
        if stored.get("baseline_trials") and now["baseline_trials"]:
            _refuse_fewer("--baseline-trials", now["baseline_trials"], others, directory.name)
            stored["baseline_trials"] = now["baseline_trials"]
    before["trials"] = after["trials"]


def _refuse_fewer(flag: str, asked: int, begun: int, name: str, *, warm_start: bool = True) -> None:
    if asked < begun:
        own = f"another --name with --warm-start {name} for a sweep that starts from its results"
        raise ConfigError(
            f"{flag} {asked}: sweep {name!r} has begun {begun} trials of this search; give at least {begun}"
            + (f", or {own}" if warm_start else "")
        )


def _searching(values: Identity) -> Identity:
    """The part of an identity that says how many trials are searched."""
    experiment = values.get("experiment")
    return experiment if isinstance(experiment, dict) else values


def _search_of(key: str) -> str | None:
    """The search that a trial belongs to: empty of the method's own, None of what no search proposed."""
    role = role_of(key)
    if role == "search":
        return ""
    return re.sub(r"-t\d+$", "", key) if role == "baseline" else None

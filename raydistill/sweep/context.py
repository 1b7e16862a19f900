"""Context that the parts of a running sweep share: the phase, the journal, the tracker and the budget."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import TrialScheduler

from raydistill import config as configuration
from raydistill.config import Config
from raydistill.records.budget import Budget
from raydistill.records.journal import Journal, Outcome, TrialRecord, role_of
from raydistill.records.layout import BUDGET_FILE
from raydistill.storage import StoragePath
from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.sweep.control.sweep_control import SweepControl
from raydistill.sweep.display.progress import ProgressReporter
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search.samplers import Proposer, Settings
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import write_atomically
from raydistill.trial_spec import TrialSpec

BUDGET_INTERVAL_S = 5.0
SEARCHES = ("search", "baseline")  # roles of trials of which the best one is looked for
TUNE_KEYS = {"time_this_iter_s", "time_total_s", "time_since_restore"}


@dataclass
class Phase:
    """A set of trials run to their end: the teachers, the search, that of a baseline, or the finalists.

    Attributes:
        role: names the phase, as `role_of` names its trials.
        trials: how many.
        epochs: of each trial, at most.
        metric: that the proposer and the scheduler optimize.
        goal: `maximize` or `minimize`.
        proposer: makes each trial's settings.
        key: the key of the trial with an index.
        resolve: what a trial with some settings trains.
        scheduler: makes Tune's scheduler, once for each Tune run; None: every trial trains to its end, without Tune.
        seeds: that each trial trains; its results are their means.
        population: the trials copy each other, so their weights travel in Tune's checkpoints.
        together: all trials are proposed at once, whatever room the packs have, since they wait for each other.
        stop: returns a reason to end the phase with what there is, or nothing.
    """

    role: str
    trials: int
    epochs: int
    metric: str
    goal: str
    proposer: Proposer
    key: Callable[[int], str]
    resolve: Callable[[Settings], TrialSpec]
    scheduler: Callable[[], TrialScheduler] | None = None
    seeds: int = 1
    population: bool = False
    together: bool = False
    stop: Callable[[], str] = str


@dataclass
class SweepContext:
    """Hold the parts that every phase of a sweep shares."""

    directory: StoragePath
    broker: Any
    broker_name: str
    journal: Journal
    tracker: Tracker
    progress: ProgressReporter
    budget: Budget
    retention: CheckpointRetention
    plan: SweepPlan
    control: SweepControl | None = None
    _accounted: float = 0.0

    def keep(self, record: TrialRecord, *, make_room: bool = True) -> None:
        """Make room on disk after a trial's end; checkpoints of teachers and finalists stay."""
        if role_of(record.key) not in SEARCHES:
            self.retention.pin(record.key)
        score = record.latest().get(self.progress.metric)
        for key in self.retention.on_trial_end(record.key, score, record.outcome == "finished", make_room=make_room):
            self.tracker.tag(key, {"raydistill.checkpoint": "removed to keep within the limit"})

    def count(self, workers: int) -> None:
        """Count the workers in use, or the GPUs that they share, and write the budget for a resume now and then."""
        settings = self.plan.settings
        self.budget.using(math.ceil(workers / settings.packs_per_gpu) if settings.gpu else workers)
        if time.monotonic() - self._accounted > BUDGET_INTERVAL_S:
            self.account()

    def account(self) -> None:
        """Write what is spent so far to disk."""
        self._accounted = time.monotonic()
        write_atomically(self.directory / BUDGET_FILE, json.dumps(self.budget.to_dict()).encode())

    def trial_directory(self, key: str) -> StoragePath:
        return self.directory / "trials" / key


def write_config(path: StoragePath, config: Config) -> None:
    """Write a resolved configuration as YAML, for `raydistill train`."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(configuration.dump(config), sort_keys=False))


def reported(result: dict[str, Any]) -> dict[str, float]:
    """Return the learner's own metrics, without what Tune adds to a result."""
    return {k: v for k, v in result.items() if isinstance(v, float) and k not in TUNE_KEYS}


def outcome_of(record: TrialRecord, failed: bool) -> Outcome:
    """Return what became of a trial that ended."""
    if failed:
        return "failed"
    return "finished" if record.epochs >= length_of(record) else "stopped_early"


def length_of(record: TrialRecord) -> int:
    """Epochs of a trial's whole training: those of its configuration, fewer where its score has settled."""
    return int(record.last("last_epoch") or record.config["train"]["epochs"])

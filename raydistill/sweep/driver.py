"""What the driver does while Tune runs: proposes trials, keeps the journal, tells broker and tracker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from raydistill import config as configuration
from raydistill.errors import RaydistillError
from raydistill.records.budget import Budget
from raydistill.records.journal import Journal, Outcome, TrialRecord, role_of
from raydistill.records.layout import BUDGET_FILE, CONFIG_FILE
from raydistill.storage import StoragePath
from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.sweep.progress import ProgressReporter
from raydistill.sweep.search.samplers import Proposer, Settings
from raydistill.sweep.workers.trainable import SweepTrainable, last_copy
from raydistill.tracking.sync import log_copy, log_start
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import write_atomically

STATUS_INTERVAL_S = 0.5
BUDGET_INTERVAL_S = 5.0
MAX_TRIAL_RESTARTS = 10
MAX_ROUNDS = 4
TUNE_KEYS = {"time_this_iter_s", "time_total_s", "time_since_restore"}


class SweepError(RaydistillError, RuntimeError):
    """A sweep cannot go on, or no trial finished; the message is the one-line cause."""


@dataclass
class Phase:
    """A set of trials run to their end: the teachers, the search, or the finalists.

    `population`: they copy each other, so their weights travel in Tune's checkpoints. `together`: all are proposed
    at once, since they wait for each other, whatever room the packs have.
    `stop`: asked now and then; a reason to end the phase with what there is, or nothing.
    """

    role: str
    trials: int
    epochs: int
    metric: str
    goal: str
    proposer: Proposer
    key: Callable[[int], str]
    resolve: Callable[[Settings], dict[str, Any]]
    scheduler: Callable[[], TrialScheduler]
    population: bool = False
    together: bool = False
    stop: Callable[[], str] = str


@dataclass
class Driver:
    """The parts that every phase of a sweep shares."""

    directory: StoragePath
    broker: Any
    broker_name: str
    journal: Journal
    tracker: Tracker
    progress: ProgressReporter
    budget: Budget
    retention: CheckpointRetention
    _accounted: float = 0.0

    def run(self, phase: Phase) -> list[TrialRecord]:
        """Run what the journal does not have yet; return all records of the phase."""
        keys = [phase.key(i) for i in range(phase.trials)]
        # Tune gives a trial up when its process dies at a bad moment; the learner is none the worse for it.
        for _ in range(MAX_ROUNDS):
            new = [key for key in keys if key not in self.journal.trials]
            pending = [r for key in keys if (r := self.journal.trials.get(key)) is not None and r.outcome is None]
            if not (new or pending) or phase.stop():
                break
            for record in pending:
                self._catch_up_with_copy(record)
            ray.get(self.broker.expect.remote(len(pending) + len(new)))
            search = _Search(self, phase, pending, new)
            callback = _Callback(self, phase, search)
            self._tune(phase, search, callback, len(pending) + len(new))
            self.account()
            if not callback.lost:
                break
        self._close(phase, keys)
        return [self.journal.trials[key] for key in keys if key in self.journal.trials]

    def _tune(self, phase: Phase, search: _Search, callback: _Callback, todo: int) -> None:
        mode = "max" if phase.goal == "maximize" else "min"
        tuner = tune.Tuner(
            tune.with_resources(SweepTrainable, {"CPU": 0.001}),
            tune_config=tune.TuneConfig(
                metric=phase.metric,
                mode=mode,
                search_alg=search,
                scheduler=phase.scheduler(),
                num_samples=todo,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["key"],
                trial_dirname_creator=lambda trial: trial.config["key"],
            ),
            run_config=tune.RunConfig(
                name=f"tune-{phase.role}",
                storage_path=str(self.directory / "ray"),
                verbose=0,
                callbacks=[callback],
                # Of the trial's own small process, when its node goes; the learner resumes.
                failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_RESTARTS),
                stop=_Stopper(phase.stop),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
            ),
        )
        try:
            tuner.fit()
        except tune.TuneError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise SweepError(f"the search ended: {lines[-1].strip()}") from error
        # A stopper ends trials without a word to anybody.
        for key in search.given:
            if self.journal.trials[key].outcome is None and key not in callback.lost:
                search.ended(key, failed=False)
                callback.ended(key, "")

    def _close(self, phase: Phase, keys: list[str]) -> None:
        """No trial stays open: the budget ended it, or its process died in every round."""
        left = [key for key in keys if key in self.journal.trials and self.journal.trials[key].outcome is None]
        if left:
            search, failure = _Search(self, phase, [], []), "" if phase.stop() else "its process died again and again"
            callback = _Callback(self, phase, search)
            for key in left:
                search.ended(key, failed=bool(failure))
                callback.ended(key, failure)

    def _catch_up_with_copy(self, record: TrialRecord) -> None:
        """A copy that the journal had not last_delivered_epoch of when the sweep was interrupted."""
        found = last_copy(self.trial_directory(record.key))
        if found is not None and not any((c.epoch, c.donor) == found[:2] for c in record.copies):
            epoch, donor, settings = found
            config = configuration.assign(record.config, settings)
            self.journal.copy(record.key, epoch, donor, settings, config)

    def keep(self, record: TrialRecord, *, make_room: bool = True) -> None:
        """Make room on disk after a trial's end; teachers and finalists are still needed."""
        if role_of(record.key) != "search":
            self.retention.pin(record.key)
        score = record.latest().get(self.progress.metric)
        for key in self.retention.on_trial_end(record.key, score, record.outcome == "finished", make_room=make_room):
            self.tracker.tag(key, {"raydistill.checkpoint": "removed to keep within the limit"})

    def count(self, workers: int) -> None:
        """Accelerators in use, and the account of them on disk for a resume."""
        self.budget.using(workers)
        if time.monotonic() - self._accounted > BUDGET_INTERVAL_S:
            self.account()

    def account(self) -> None:
        """Write down what is spent so far."""
        self._accounted = time.monotonic()
        write_atomically(self.directory / BUDGET_FILE, json.dumps(self.budget.to_dict()).encode())

    def trial_directory(self, key: str) -> StoragePath:
        return self.directory / "trials" / key


class _Unstored:
    """Tune stores its search and callbacks to restore from; ours hold files and threads, and the journal is
    what a sweep resumes from, so an empty shell is stored in their place."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Unstored, ()


class _Stopper(_Unstored, tune.Stopper):
    """Ends the phase when its budget is spent."""

    def __init__(self, stop: Callable[[], str] = str) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._stop())


class _Search(_Unstored, Searcher):
    """Hands out the interrupted trials first, then new proposals, and tells the proposer what came of them.

    A proposal is made when the packs have room for it, not before, so that it knows what the others found.
    """

    def __init__(self, driver: Driver, phase: Phase, pending: list[TrialRecord], keys: list[str]) -> None:
        super().__init__(metric=phase.metric, mode="max" if phase.goal == "maximize" else "min")
        self._driver, self._phase = driver, phase
        self._pending, self._keys = list(pending), list(keys)
        self._key_of: dict[str, str] = {}
        self.running: set[str] = set()
        self.room = ray.get(driver.broker.status.remote())["room"]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._pending and not self._keys:
            return Searcher.FINISHED
        if len(self.running) >= self.room and not self._phase.together:
            return None
        if self._pending:
            record = self._pending.pop(0)
        else:
            key = self._keys[0]
            settings = self._phase.proposer.propose(key)
            if settings is None:
                return Searcher.FINISHED
            self._keys.pop(0)
            self._driver.journal.propose(key, settings, self._phase.resolve(settings))
            record = self._driver.journal.trials[key]
        self._key_of[trial_id] = record.key
        self.running.add(record.key)
        return {
            "key": record.key,
            "config": record.config,
            "settings": record.settings if self._phase.population else {},
            "directory": str(self._driver.trial_directory(record.key)),
            "last_delivered_epoch": record.epochs,
            "broker": self._driver.broker_name,
            "carry": self._phase.population,
        }

    def on_pause(self, trial_id: str) -> None:
        """Nothing: the callback sees pauses."""

    def on_unpause(self, trial_id: str) -> None:
        """Nothing, as for `on_pause`."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._phase.metric in result:
            self._phase.proposer.observe(self._key_of[trial_id], result["epoch"], reported(result))

    @property
    def given(self) -> list[str]:
        """The trials handed out so far."""
        return list(self._key_of.values())

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        if not error:
            self.ended(self._key_of[trial_id], failed="failure" in (result or {}))

    def ended(self, key: str, *, failed: bool) -> None:
        """Tell the proposer what became of a trial."""
        record = self._driver.journal.trials[key]
        self.running.discard(key)
        if record.results:
            # Tune keeps the result that stopped a trial to itself.
            self._phase.proposer.observe(key, record.epochs, record.results[record.epochs])
        self._phase.proposer.finish(key, _outcome(record, failed), record.latest())

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal and the study's own file are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


class _Callback(_Unstored, tune.Callback):
    """Journal, MLflow, progress and broker, told of every trial's start, results and end."""

    def __init__(self, driver: Driver, phase: Phase, search: _Search) -> None:
        self._driver, self._phase, self._search = driver, phase, search
        self._looked = 0.0
        self.lost: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._driver.journal.trials[trial.config["key"]]
        self._search.running.add(record.key)
        log_start(self._driver.tracker, record)
        config = self._driver.trial_directory(record.key) / CONFIG_FILE
        if not config.exists():
            write_config(config, record.config)
            self._driver.tracker.artifact(record.key, config)
        self._driver.progress.started(record.key)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        if "failure" in result:
            return
        key, epoch = trial.config["key"], result["epoch"]
        if result.get("copied_from"):
            self._copied(trial, result["copied_from"])
        known = self._driver.journal.trials[key].results
        metrics = reported(result)
        if epoch not in known:
            self._driver.journal.result(key, epoch, metrics, result.get("offsets", ()))
            self._driver.budget.trained()
            self._driver.tracker.log(key, epoch, metrics)
            shown = metrics.get(self._phase.metric) if self._phase.role == "search" else None
            self._driver.progress.result(key, epoch, shown)

    def _copied(self, trial: Any, source: str) -> None:
        """A population's trial goes on with another's weights and other settings."""
        donor, _, epoch = source.partition("@")
        record = self._driver.journal.trials[trial.config["key"]]
        config = configuration.assign(trial.config["config"], trial.config["settings"])
        self._driver.journal.copy(record.key, int(epoch), donor, trial.config["settings"], config)
        write_config(self._driver.trial_directory(record.key) / CONFIG_FILE, config)
        log_copy(self._driver.tracker, record)
        self._driver.progress.note(f"{record.key} {record.copies[-1]}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended(trial.config["key"], trial.last_result.get("failure", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.lost.add(trial.config["key"])
        self._search.running.discard(trial.config["key"])
        ray.get(self._driver.broker.leave.remote(trial.config["key"]))

    def ended(self, key: str, failure: str) -> None:
        ray.get(self._driver.broker.leave.remote(key))
        record = self._driver.journal.trials[key]
        outcome = _outcome(record, bool(failure))
        self._search.running.discard(key)
        message = failure or (self._phase.stop() if outcome == "stopped_early" else "")
        self._driver.journal.end(key, outcome, message)
        self._driver.tracker.end_trial(key, outcome, message)
        self._driver.progress.ended(key, outcome, message)
        self._driver.keep(record)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            if trial.status == TuneTrial.PAUSED and trial.config["key"] in self._search.running:
                # Nothing else tells the pack that this learner has no next epoch for now.
                self._search.running.discard(trial.config["key"])
                ray.get(self._driver.broker.leave.remote(trial.config["key"]))
        if time.monotonic() - self._looked > STATUS_INTERVAL_S:
            self._looked = time.monotonic()
            status = ray.get(self._driver.broker.status.remote())
            self._search.room = status["room"]
            self._driver.count(status["workers"])
            self._driver.progress.tick(status["shares"])


def write_config(path: StoragePath, config: dict[str, Any]) -> None:
    """A resolved configuration as YAML, for `raydistill train`."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(configuration.dump(configuration.load(config)), sort_keys=False))


def reported(result: dict[str, Any]) -> dict[str, float]:
    """The learner's own metrics among what Tune adds to a result."""
    return {k: v for k, v in result.items() if isinstance(v, float) and k not in TUNE_KEYS}


def _outcome(record: TrialRecord, failed: bool) -> Outcome:
    if failed:
        return "failed"
    return "finished" if record.epochs >= record.config["train"]["epochs"] else "stopped_early"

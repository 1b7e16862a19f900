"""What the driver does while Tune runs: proposes trials, keeps the journal, tells broker and tracker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from raydistill import config as configuration
from raydistill.sweep.journal import Journal, Outcome, TrialRecord
from raydistill.sweep.progress import Progress
from raydistill.sweep.search import Proposer, Settings
from raydistill.sweep.tracking import Tracker
from raydistill.sweep.trial import Trial

TUNE_KEYS = {"time_this_iter_s", "time_total_s", "time_since_restore"}


class SweepFailed(RuntimeError):  # noqa: N818 - it is the sweep that failed
    """A sweep cannot go on, or no trial finished; the message is the one-line cause."""


@dataclass
class Phase:
    """A set of trials run to their end: the teachers, the search, or the finalists."""

    role: str
    trials: int
    epochs: int
    concurrent: int
    metric: str
    goal: str
    proposer: Proposer
    key: Callable[[int], str]
    resolve: Callable[[Settings], dict[str, Any]]
    scheduler: TrialScheduler


@dataclass
class Driver:
    """The parts that every phase of a sweep shares."""

    directory: Path
    broker: Any
    broker_name: str
    journal: Journal
    tracker: Tracker
    progress: Progress

    def run(self, phase: Phase) -> list[TrialRecord]:
        """Run what the journal does not have yet; return all records of the phase."""
        keys = [phase.key(i) for i in range(phase.trials)]
        known = [self.journal.trials[key] for key in keys if key in self.journal.trials]
        pending = [record for record in known if record.outcome is None]
        todo = len(pending) + len(keys) - len(known)
        if todo:
            ray.get(self.broker.expect.remote(min(todo, phase.concurrent)))
            search = _Search(self, phase, pending, keys[len(known) :])
            self._tune(phase, search, todo)
        return [self.journal.trials[key] for key in keys if key in self.journal.trials]

    def retell(self) -> None:
        """After a resume, tell the tracker what it may have missed; what it has it leaves out."""
        for record in self.journal.trials.values():
            tags = {"raydistill.role": role_of(record.key)}
            self.tracker.start_trial(record.key, flatten(record.config), tags=tags)
            for epoch, metrics in record.results.items():
                self.tracker.log(record.key, epoch, metrics)
            if record.outcome is not None:
                self.tracker.end_trial(record.key, record.outcome, record.message)

    def _tune(self, phase: Phase, search: Searcher, todo: int) -> None:
        tuner = tune.Tuner(
            tune.with_resources(Trial, {"CPU": 0.001}),
            tune_config=tune.TuneConfig(
                metric=phase.metric,
                mode="max" if phase.goal == "maximize" else "min",
                search_alg=search,
                scheduler=phase.scheduler,
                num_samples=todo,
                max_concurrent_trials=min(todo, phase.concurrent),
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["key"],
                trial_dirname_creator=lambda trial: trial.config["key"],
            ),
            run_config=tune.RunConfig(
                name=f"tune-{phase.role}",
                storage_path=str(self.directory / "ray"),
                verbose=0,
                callbacks=[_Callback(self, phase)],
            ),
        )
        tuner.fit()

    def trial_directory(self, key: str) -> Path:
        return self.directory / "trials" / key


class _Unstored:
    """Tune stores its search and callbacks to restore from; ours hold files and threads, and the journal is
    what a sweep resumes from, so an empty shell is stored in their place."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Unstored, ()


class _Search(_Unstored, Searcher):
    """Hands out the interrupted trials first, then new proposals, and tells the proposer what came of them."""

    def __init__(self, driver: Driver, phase: Phase, pending: list[TrialRecord], keys: list[str]) -> None:
        super().__init__(metric=phase.metric, mode="max" if phase.goal == "maximize" else "min")
        self._driver, self._phase = driver, phase
        self._pending, self._keys = list(pending), list(keys)
        self._key_of: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._pending:
            record = self._pending.pop(0)
        elif self._keys:
            key = self._keys[0]
            settings = self._phase.proposer.propose(key)
            if settings is None:
                return Searcher.FINISHED
            self._keys.pop(0)
            self._driver.journal.propose(key, settings, self._phase.resolve(settings))
            record = self._driver.journal.trials[key]
        else:
            return Searcher.FINISHED
        self._key_of[trial_id] = record.key
        directory = self._driver.trial_directory(record.key)
        return {"key": record.key, "config": record.config, "directory": str(directory),
                "broker": self._driver.broker_name}  # fmt: skip

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._phase.metric in result:
            key = self._key_of[trial_id]
            self._phase.proposer.observe(key, result["epoch"], result[self._phase.metric])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        record = self._driver.journal.trials[self._key_of[trial_id]]
        failed = error or "failure" in (result or {})
        outcome = _outcome(record, failed)
        self._phase.proposer.finish(record.key, outcome, record.last(self._phase.metric))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal and the study's own file are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


class _Callback(_Unstored, tune.Callback):
    """Journal, MLflow, progress and broker, told of every trial's start, results and end."""

    def __init__(self, driver: Driver, phase: Phase) -> None:
        self._driver, self._phase = driver, phase

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._driver.journal.trials[trial.config["key"]]
        self._driver.tracker.start_trial(record.key, flatten(record.config), tags={"raydistill.role": self._phase.role})
        config = self._driver.trial_directory(record.key) / "config.yaml"
        if not config.exists():
            write_config(config, record.config)
            self._driver.tracker.artifact(record.key, config)
        self._driver.progress.started(record.key)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        if "failure" in result:
            return
        key, epoch = trial.config["key"], result["epoch"]
        known = self._driver.journal.trials[key].results
        metrics = reported(result)
        if epoch not in known:
            self._driver.journal.result(key, epoch, metrics)
            self._driver.tracker.log(key, epoch, metrics)
            shown = metrics.get(self._phase.metric) if self._phase.role != "teacher" else None
            self._driver.progress.result(key, epoch, shown)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["key"], trial.last_result.get("failure", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["key"], "its process died")

    def _end(self, key: str, failure: str) -> None:
        ray.get(self._driver.broker.leave.remote(key))
        record = self._driver.journal.trials[key]
        outcome = _outcome(record, bool(failure))
        self._driver.journal.end(key, outcome, failure)
        self._driver.tracker.end_trial(key, outcome, failure)
        self._driver.progress.ended(key, outcome, failure)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._driver.progress.tick(lambda: ray.get(self._driver.broker.shares.remote()))


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted path, as MLflow shows them."""
    return {f"{section}.{key}": value for section, values in config.items() for key, value in values.items()}


def write_config(path: Path, config: dict[str, Any]) -> None:
    """A resolved configuration as YAML, for `raydistill train`."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(configuration.dump(configuration.load(config)), sort_keys=False))


def reported(result: dict[str, Any]) -> dict[str, float]:
    """The learner's own metrics among what Tune adds to a result."""
    return {k: v for k, v in result.items() if isinstance(v, float) and k not in TUNE_KEYS}


def role_of(key: str) -> str:
    """What a trial is for, by its name: teacher, final or search."""
    return next((role for role in ("teacher", "final") if key.startswith(f"{role}-")), "search")


def _outcome(record: TrialRecord, failed: bool) -> Outcome:
    if failed:
        return "failed"
    return "finished" if record.epochs >= record.config["train"]["epochs"] else "stopped_early"

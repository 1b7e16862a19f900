"""Reactions to what becomes of trials: the journal is written, and broker, tracker and progress are informed."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from raydistill.records.budget import BY_HAND, TRIAL_BY_HAND
from raydistill.records.layout import CONFIG_FILE
from raydistill.sweep.context import SEARCHES, Phase, SweepContext, outcome_of, reported, write_config
from raydistill.sweep.tune_search import TuneSearch, Unstored
from raydistill.tracking.sync import log_copy, log_start
from raydistill.training.failures import ERROR_FILE

STATUS_INTERVAL_S = 0.5


class TuneCallback(Unstored, tune.Callback):
    """Pass every trial's start, results and end to journal, tracker, progress and broker.

    Args:
        context: the sweep's shared parts.
        phase: whose trials these are.
        search: hands out the trials; its count of running trials and its room are kept up to date here.
    """

    def __init__(self, context: SweepContext, phase: Phase, search: TuneSearch) -> None:
        self._context, self._phase, self._search = context, phase, search
        self._last_status = 0.0
        self.lost: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.started(trial.config["key"])

    def started(self, key: str) -> None:
        """Record a trial's start."""
        record = self._context.journal.trials[key]
        self._search.running.add(record.key)
        log_start(self._context.tracker, record)
        config = self._context.trial_directory(record.key) / CONFIG_FILE
        if not config.exists():
            write_config(config, record.spec.config)
            self._context.tracker.artifact(record.key, config)
        length = record.config["train"]["epochs"]
        self._context.progress.started(record.key, length, record.settings, done=record.epochs)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        if "failure" in result:
            return
        if result.get("copied_from"):
            self._copied(trial, result["copied_from"])
        self.trained(trial.config["key"], result["epoch"], reported(result), result.get("offsets", ()))

    def trained(self, key: str, epoch: int, metrics: dict[str, float], offsets: tuple[tuple[int, int], ...]) -> None:
        """Record an epoch of a trial, unless it is known already.

        Args:
            key: the trial.
            epoch: which one.
            metrics: of it.
            offsets: which of the stream's epochs the learner saw.
        """
        if epoch not in self._context.journal.trials[key].results:
            self._context.journal.result(key, epoch, metrics, offsets)
            self._context.budget.trained(self._phase.seeds)
            self._context.tracker.log(key, epoch, metrics)
            shown = metrics.get(self._phase.metric) if self._phase.role in SEARCHES else None
            self._context.progress.result(key, epoch, shown)

    def _copied(self, trial: Any, source: str) -> None:
        """Record that a population's trial goes on with another's weights and other settings."""
        donor, _, epoch = source.partition("@")
        record = self._context.journal.trials[trial.config["key"]]
        spec = trial.config["spec"].assign(trial.config["settings"])
        self._context.journal.copy(record.key, int(epoch), donor, trial.config["settings"], spec)
        write_config(self._context.trial_directory(record.key) / CONFIG_FILE, spec.config)
        log_copy(self._context.tracker, record)
        self._context.progress.note(f"{record.key} {record.copies[-1]}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended(trial.config["key"], trial.last_result.get("failure", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.lost.add(trial.config["key"])
        self._search.running.discard(trial.config["key"])
        ray.get(self._context.broker.leave.remote(trial.config["key"]))

    def ended(self, key: str, failure: str) -> None:
        """Record a trial's end; `failure` is its cause, or empty."""
        ray.get(self._context.broker.leave.remote(key))
        record = self._context.journal.trials[key]
        outcome = outcome_of(record, bool(failure))
        self._search.running.discard(key)
        control = self._context.control
        by_hand = TRIAL_BY_HAND if control is not None and control.stops(key) else ""
        message = failure or ((by_hand or self._phase.stop()) if outcome == "stopped_early" else "")
        if outcome == "finished" and record.epochs < record.config["train"]["epochs"]:
            name = "val_knn" if record.last("val_knn") is not None else "val_instance"
            message = f"its score has settled, {name} {record.last(name):.4f}"
        self._context.journal.end(key, outcome, message)
        if control is not None:
            control.ended(key)
        self._context.tracker.end_trial(key, outcome, message)
        if failure and (traceback := self._context.trial_directory(key) / ERROR_FILE).exists():
            self._context.tracker.artifact(key, traceback)
            message = f"{message}; traceback: {traceback}"
        self._context.progress.ended(key, outcome, message)
        self._context.keep(record)

    # docs/architecture.md#paused-trials
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            if trial.status == TuneTrial.PAUSED and trial.config["key"] in self._search.running:
                # Without this the pack would wait for the next epoch of a paused learner.
                self._search.running.discard(trial.config["key"])
                ray.get(self._context.broker.leave.remote(trial.config["key"]))
        self.look()

    def look(self) -> None:
        """Ask the broker now and then how many trials it has room for, and how far they are; obey requests."""
        if time.monotonic() - self._last_status > STATUS_INTERVAL_S:
            self._last_status = time.monotonic()
            status = ray.get(self._context.broker.status.remote())
            self._search.note_room(status["room"])
            self._context.count(status["workers"])
            self._context.progress.tick(status["shares"])
            control = self._context.control
            if control is not None and control.look(self._phase, self._search.unproposed):
                self._context.account()


class PhaseStopper(Unstored, tune.Stopper):
    """End the phase when its budget is spent, and trials that are stopped by hand after their epoch.

    Args:
        context: the sweep's shared parts.
        phase: that runs.
        search: knows which trials are in training.
    """

    def __init__(self, context: SweepContext, phase: Phase, search: TuneSearch) -> None:
        self._context, self._phase, self._search = context, phase, search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        control = self._context.control
        named = control is not None and control.stops(self._search.key_of(trial_id))
        return named or self._phase.stop() == BY_HAND

    def stop_all(self) -> bool:
        reason = self._phase.stop()
        return bool(reason) and not (reason == BY_HAND and self._search.running)

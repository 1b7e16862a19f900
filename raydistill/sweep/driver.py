"""Runs the phases of a sweep, one after another, until the journal has all their trials."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from raydistill.errors import RaydistillError
from raydistill.records.journal import TrialRecord
from raydistill.sweep.context import Phase, SweepContext, reported
from raydistill.sweep.tune_callback import STATUS_INTERVAL_S, PhaseStopper, TuneCallback
from raydistill.sweep.tune_search import TuneSearch
from raydistill.sweep.workers.trainable import SweepTrainable, last_copy
from raydistill.training.messages import JoinRequest

MAX_TRIAL_RESTARTS = 10
TRIAL_SHARE = 0.0001  # of the resource that names the driver's node
MAX_ROUNDS = 4
MAX_TUNE_CHECKPOINTS = 3
PHASES = {"baseline": "search", "final": "final runs", "teacher": "teachers"}  # as a live view names them


class SweepError(RaydistillError, RuntimeError):
    """A sweep cannot go on, or no trial finished; the message is the one-line cause."""


class Driver(SweepContext):
    """Runs one phase after another, with the parts that they share."""

    def run(self, phase: Phase) -> list[TrialRecord]:
        """Run what the journal does not have yet; return all records of the phase."""
        keys = [phase.key(i) for i in range(phase.trials)]
        self.progress.at(PHASES.get(phase.role, phase.role))
        # Tune gives up a trial whose process dies at a bad moment. Its learner is unharmed, so another round runs it.
        for _ in range(MAX_ROUNDS):
            new = [key for key in keys if key not in self.journal.trials]
            pending = [r for key in keys if (r := self.journal.trials.get(key)) is not None and r.outcome is None]
            if not (new or pending) or phase.stop():
                break
            for record in pending:
                self._catch_up_with_copy(record)
            ray.get(self.broker.expect.remote(len(pending) + len(new)))
            search = TuneSearch(self, phase, pending, new)
            callback = TuneCallback(self, phase, search)
            if phase.scheduler is None:
                self._train(phase, search, callback)
            else:
                self._tune(phase, phase.scheduler(), search, callback, len(pending) + len(new))
            self.account()
            if not callback.lost:
                break
        self._close(phase, keys)
        return [self.journal.trials[key] for key in keys if key in self.journal.trials]

    # docs/architecture.md#trials-without-tune
    def _train(self, phase: Phase, search: TuneSearch, callback: TuneCallback) -> None:
        """Train trials that no scheduler decides about, as many at a time as the packs have room for."""
        asked: dict[Any, str] = {}
        try:
            while True:
                while isinstance(trial := search.suggest(str(len(search.given))), dict):
                    key, directory = trial["key"], trial["directory"]
                    callback.started(key)
                    request = JoinRequest(key, trial["spec"], directory, trial["last_delivered_epoch"])
                    ray.get(self.broker.join.remote(request))
                    asked[self.broker.next.remote(key)] = key
                if not asked:
                    return
                arrived, _ = ray.wait(list(asked), timeout=STATUS_INTERVAL_S)
                for ask in arrived:
                    key, report = asked.pop(ask), ray.get(ask)
                    if not report.error:
                        callback.trained(key, report.epoch, reported(report.metrics), report.offsets)
                    if report.error or report.done:
                        search.ended(key, failed=bool(report.error))
                        callback.ended(key, report.error)
                    else:
                        asked[self.broker.next.remote(key)] = key
                callback.look()
        except ray.exceptions.RayError as error:
            raise SweepError(f"the trials of the {phase.role} ended: {_last_line(error)}") from error

    def _tune(
        self, phase: Phase, scheduler: TrialScheduler, search: TuneSearch, callback: TuneCallback, todo: int
    ) -> None:
        """Run trials in Tune, whose scheduler decides after every epoch which of them go on.

        Args:
            phase: whose trials these are.
            scheduler: of Tune.
            search: hands out the trials.
            callback: records what becomes of them.
            todo: how many they are.
        """
        mode = "max" if phase.goal == "maximize" else "min"
        tuner = tune.Tuner(
            # Here, where they end with the driver: on a GPU node they would keep it from going when idle.
            tune.with_resources(SweepTrainable, {f"node:{ray.util.get_node_ip_address()}": TRIAL_SHARE}),
            tune_config=tune.TuneConfig(
                metric=phase.metric,
                mode=mode,
                search_alg=search,
                scheduler=scheduler,
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
                # Restarts of the trial's own small process, when its node is lost; the learner resumes.
                failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_RESTARTS),
                stop=PhaseStopper(self, phase, search),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=MAX_TUNE_CHECKPOINTS),
            ),
        )
        try:
            tuner.fit()
        except tune.TuneError as error:
            raise SweepError(f"the search ended: {_last_line(error)}") from error
        # Tune calls neither the searcher nor the callback for a trial that a stopper ended.
        for key in search.given:
            if self.journal.trials[key].outcome is None and key not in callback.lost:
                search.ended(key, failed=False)
                callback.ended(key, "")

    def _close(self, phase: Phase, keys: list[str]) -> None:
        """End the trials that are still open: the budget ended them, or their process died in every round."""
        left = [key for key in keys if key in self.journal.trials and self.journal.trials[key].outcome is None]
        if left:
            failure = "" if phase.stop() else "its process died again and again"
            search = TuneSearch(self, phase, [], [])
            callback = TuneCallback(self, phase, search)
            for key in left:
                search.ended(key, failed=bool(failure))
                callback.ended(key, failure)

    def _catch_up_with_copy(self, record: TrialRecord) -> None:
        """Write a copy into the journal that was made just before the sweep was interrupted."""
        found = last_copy(self.trial_directory(record.key))
        if found is not None and not any((c.epoch, c.donor) == found[:2] for c in record.copies):
            epoch, donor, settings = found
            spec = self.plan.complete(record.spec.assign(settings))
            self.journal.copy(record.key, epoch, donor, settings, spec)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()

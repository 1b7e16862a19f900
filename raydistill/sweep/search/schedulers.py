"""Early stopping and populations: Tune's schedulers, over our own trial keys."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.schedulers.pb2 import PB2

from raydistill import config as configuration
from raydistill.records.journal import TrialRecord
from raydistill.sweep.search.space import Parameter, Space
from raydistill.sweep.search.space_parser import changeable

OWN = ("key", "directory", "last_delivered_epoch", "broker", "carry")
FACTORS = (0.8, 1.2)


class _Remembering:
    """A scheduler that after a resume still knows the results of before, under the trials' keys."""

    _past: list[TrialRecord]

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        accepted = super().set_search_properties(metric, mode, **spec)  # type: ignore[misc]
        for record in self._past:
            trial = SimpleNamespace(trial_id=record.key, config={"key": record.key})
            self.on_trial_add(None, trial)
            for epoch in sorted(record.results):
                self.on_trial_result(None, trial, {"epoch": epoch, **record.results[epoch]})
        return accepted

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _by_key(trial))  # type: ignore[misc]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return super().on_trial_result(tune_controller, _by_key(trial), result)  # type: ignore[misc]

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _by_key(trial), result)  # type: ignore[misc]

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, _by_key(trial))  # type: ignore[misc]


class SweepASHA(_Remembering, AsyncHyperBandScheduler):
    """ASHA; results in the journal count as they did when they came."""

    def __init__(self, past: list[TrialRecord], **settings: Any) -> None:
        super().__init__(time_attr="epoch", **settings)
        self._past = past


class _Bracketed:
    """HyperBand that survives what trials do here: report without a score between evaluations, and fail.

    Ray 2.60 never takes a bracket's "being processed" back, so that the last trial of a rung could fail unseen and
    leave the others paused; and its brackets end their survivors at the last milestone, short of `max_t`.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._metric not in result:  # type: ignore[attr-defined]
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        try:
            return super()._process_bracket(tune_controller, bracket)  # type: ignore[misc]
        finally:
            bracket.is_being_processed = False


class SweepHyperBand(_Bracketed, HyperBandScheduler):
    """HyperBand; what is left of a bracket trains to its end."""


class SweepBOHB(_Bracketed, HyperBandForBOHB):
    """HyperBand in the order that BOHB wants it."""


class SweepMedian(MedianStoppingRule):
    """The median rule, which takes no account of a trial that failed without a score."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if self._metric in result and self._time_attr in result:
            super().on_trial_complete(tune_controller, trial, result)


class _Replacing:
    """Common part of both populations: trials keep their names, and no trial waits for one that has failed."""

    _space: Space
    _trial_state: dict[Any, Any]
    _next_perturbation_sync: float

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune wants no search algorithm beside a population; ours hands out random settings and no more."""
        super().on_trial_add(SimpleNamespace(search_alg=None), trial)  # type: ignore[misc]

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = self._explored(trial, trial_to_clone)
        own = {name: trial.config[name] for name in OWN}
        own["as_of"] = self._trial_state[trial_to_clone].last_train_time
        return {**config, **own, "spec": config["spec"].assign(config["settings"])}, operations

    def _explored(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return super()._get_new_config(trial, trial_to_clone)  # type: ignore[misc]

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        chosen = super().choose_trial_to_run(tune_controller)  # type: ignore[misc]
        if chosen is None:
            live = [trial for trial in tune_controller.get_live_trials() if trial in self._trial_state]
            due = [t for t in live if self._trial_state[t].last_train_time >= self._next_perturbation_sync]
            paused = all(trial.status == TuneTrial.PAUSED and not trial.is_saving for trial in live)
            if live and paused and len(due) == len(live):
                # The last trial that the others waited for has ended instead of reporting.
                self.on_trial_result(tune_controller, live[0], self._trial_state[live[0]].last_result)  # type: ignore[attr-defined]
                chosen = super().choose_trial_to_run(tune_controller)  # type: ignore[misc]
        for trial in tune_controller.get_live_trials() if chosen is not None else ():
            # Tune starts one paused trial at a time; the others would miss their pack's next epochs.
            due = self._trial_state[trial].last_train_time < self._next_perturbation_sync
            if trial.status == TuneTrial.PAUSED and trial is not chosen and due and not trial.is_saving:
                tune_controller._set_trial_status(trial, TuneTrial.PENDING)
        return chosen


class SweepPBT(_Replacing, PopulationBasedTraining):
    """PBT, synchronous: donors and copiers are at the same epoch."""

    def __init__(self, space: Space, mutable: tuple[Parameter, ...], *, seed: int, **settings: Any) -> None:
        super().__init__(
            time_attr="epoch", synch=True, log_config=False, require_attrs=False, custom_explore_fn=dict, **settings
        )
        self._space, self._mutable, self._rng = space, mutable, random.Random(seed)

    def _explored(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        donor = trial_to_clone.config
        settings = {
            parameter.path: perturbed(
                parameter, donor["settings"][parameter.path], self._resample_probability, self._rng
            )
            for parameter in self._mutable
            if parameter.path in donor["settings"]
        }
        return {**donor, "settings": {**donor["settings"], **settings}}, {}


class SweepPB2(_Replacing, PB2):
    """PB2, synchronous, over the ranges."""

    def __init__(self, space: Space, mutable: tuple[Parameter, ...], **settings: Any) -> None:
        bounds = {"settings": {parameter.path: [parameter.low, parameter.high] for parameter in mutable}}
        super().__init__(
            time_attr="epoch", synch=True, log_config=False, require_attrs=False, hyperparam_bounds=bounds, **settings
        )
        self._space, self._mutable = space, mutable

    def _explored(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._explored(trial, trial_to_clone)
        settings = dict(config["settings"])
        for parameter in self._mutable:
            if parameter.q is not None:
                settings[parameter.path] = parameter.round(settings[parameter.path])
        return {**config, "settings": settings}, operations


def perturbed(parameter: Parameter, value: Any, resample: float, rng: random.Random) -> Any:
    """Perturb a parameter's value for a copy. Source: PBT, arXiv 1711.09846, section 4.

    Args:
        parameter: what it may be.
        value: the donor's.
        resample: probability of a new draw; else times 0.8 or 1.2 within the range, or the neighbour in a list.
        rng: draws.
    """
    if rng.random() < resample or (parameter.values and value not in parameter.values):
        return parameter.sample(rng)
    if parameter.values:
        index = parameter.values.index(value) + rng.choice((-1, 1))
        return parameter.values[min(max(index, 0), len(parameter.values) - 1)]
    assert parameter.low is not None
    assert parameter.high is not None
    moved = min(max(value * rng.choice(FACTORS), parameter.low), parameter.high)
    return moved if parameter.q is None else parameter.round(moved)


def make_scheduler(space: Space, method: str, epochs: int, past: list[TrialRecord], *, seed: int = 0) -> TrialScheduler:
    """Make the scheduler that the space asks for; without one, every trial runs to its end.

    Args:
        space: with its early stopping or population.
        method: whose settings a population changes.
        epochs: of a whole trial.
        past: trials before a resume, whose results the scheduler is shown.
        seed: of a population's draws.
    """
    if (population := space.population) and population.interval < epochs:
        mutable = changeable(space, configuration.paths(method))
        common: dict[str, Any] = {
            "perturbation_interval": population.interval,
            "quantile_fraction": population.quantile,
        }
        if population.type == "pb2":
            return SweepPB2(space, mutable, **common)
        return SweepPBT(space, mutable, seed=seed, resample_probability=population.resample, **common)
    stop = space.early_terminate
    if stop is None or stop.min_iter >= epochs:
        return FIFOScheduler()
    if stop.type == "median":
        return SweepMedian(time_attr="epoch", grace_period=stop.min_iter, min_samples_required=3)
    if stop.type == "hyperband":
        return SweepHyperBand(time_attr="epoch", max_t=epochs, reduction_factor=stop.eta, stop_last_trials=False)
    if stop.type == "bohb":
        return SweepBOHB(time_attr="epoch", max_t=epochs, reduction_factor=stop.eta, stop_last_trials=False)
    return SweepASHA(past, max_t=epochs, grace_period=stop.min_iter, reduction_factor=stop.eta)


def _by_key(trial: Any) -> SimpleNamespace:
    return SimpleNamespace(trial_id=trial.config["key"], config=trial.config)

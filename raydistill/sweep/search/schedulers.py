"""Early stopping and populations: Tune's schedulers, over our own trial keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raydistill import config as configuration
from raydistill.records.journal import TrialRecord
from raydistill.sweep.search.populations import SweepPBT
from raydistill.sweep.search.space import Space, changeable


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
            from raydistill.sweep.search.pb2 import SweepPB2  # docs/architecture.md#late-imports

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

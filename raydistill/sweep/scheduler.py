"""Early stopping: Tune's ASHA, which after a resume still knows the results of before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raydistill.sweep.journal import TrialRecord
from raydistill.sweep.space import Space


class SweepASHA(AsyncHyperBandScheduler):
    """ASHA over our own trial keys, so that results in the journal count as they did when they came."""

    def __init__(self, past: list[TrialRecord], **settings: Any) -> None:
        super().__init__(time_attr="epoch", **settings)
        self._past = past

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        accepted = super().set_search_properties(metric, mode, **spec)
        for record in self._past:
            trial = SimpleNamespace(trial_id=record.key, config={"key": record.key})
            self.on_trial_add(None, trial)
            for epoch in sorted(record.results):
                self.on_trial_result(None, trial, {"epoch": epoch, **record.results[epoch]})
        return accepted

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _by_key(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return super().on_trial_result(tune_controller, _by_key(trial), result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _by_key(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, _by_key(trial))


def make_scheduler(space: Space, epochs: int, past: list[TrialRecord]) -> TrialScheduler:
    """ASHA where the space asks for early termination, else every trial runs to its end."""
    stop = space.early_terminate
    if stop is None or stop.min_iter >= epochs:
        return FIFOScheduler()
    return SweepASHA(past, max_t=epochs, grace_period=stop.min_iter, reduction_factor=stop.eta)


def _by_key(trial: Any) -> SimpleNamespace:
    return SimpleNamespace(trial_id=trial.config["key"], config=trial.config)

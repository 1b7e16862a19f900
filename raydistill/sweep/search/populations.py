"""Population-based training: synchronous, over our own trial keys."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import PopulationBasedTraining

from raydistill.sweep.search.space import Parameter, Space

OWN = ("key", "directory", "last_delivered_epoch", "seeds", "broker", "carry")
FACTORS = (0.8, 1.2)


class Replacing:
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


class SweepPBT(Replacing, PopulationBasedTraining):
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

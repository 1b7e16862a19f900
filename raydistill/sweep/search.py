"""Who proposes the next configuration: a list (grid, random, finalists) or Optuna's TPE."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from raydistill.sweep.journal import Outcome, TrialRecord
from raydistill.sweep.space import Parameter, Space

Settings = dict[str, Any]


class Proposer(Protocol):
    """Proposes settings and is told what became of them. None: nothing is left to try."""

    def propose(self, key: str) -> Settings | None: ...
    def observe(self, key: str, epoch: int, value: float) -> None: ...
    def finish(self, key: str, outcome: Outcome, value: float | None) -> None: ...


class Listed:
    """Settings known beforehand, in order."""

    def __init__(self, settings: Iterable[Settings]) -> None:
        self._rest = list(settings)

    def propose(self, key: str) -> Settings | None:
        return self._rest.pop(0) if self._rest else None

    def observe(self, key: str, epoch: int, value: float) -> None:
        pass

    def finish(self, key: str, outcome: Outcome, value: float | None) -> None:
        pass


class Bayes:
    """Optuna's TPE (multivariate, constant liar). Early-stopped trials are told as pruned with their
    curve, failed ones as failed, so that no score of a short budget passes for a full one.

    The study lives in a file of the sweep's directory, and a resumed sweep goes on with it.
    """

    def __init__(self, space: Space, *, seed: int, journal: Path, name: str) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").propagate = False
        self._optuna = optuna
        self._space = space
        self._study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(journal))),
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=6, constant_liar=True),
            direction=space.goal,
            load_if_exists=True,
        )
        self._trials: dict[str, Any] = {}

    def propose(self, key: str) -> Settings | None:
        trial = self._study.ask()
        trial.set_user_attr("key", key)
        self._trials[key] = trial
        return self._space.propose(lambda parameter: _suggest(trial, parameter))

    def observe(self, key: str, epoch: int, value: float) -> None:
        if trial := self._open(key):
            trial.report(value, epoch)

    def finish(self, key: str, outcome: Outcome, value: float | None) -> None:
        trial = self._open(key)
        if trial is None:
            return
        states = self._optuna.trial.TrialState
        if outcome == "finished" and value is not None:
            self._study.tell(trial.number, value)
        elif outcome == "stopped_early":
            self._study.tell(trial.number, state=states.PRUNED)
        else:
            self._study.tell(trial.number, state=states.FAIL)
        del self._trials[key]

    def _open(self, key: str) -> Any | None:
        """The running Optuna trial of `key`, found in the study after a resume."""
        if key not in self._trials:
            running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
            for frozen in running:
                if frozen.user_attrs.get("key") == key:
                    self._trials[key] = self._optuna.trial.Trial(self._study, frozen._trial_id)
        return self._trials.get(key)


def make_proposer(space: Space, *, trials: int, seed: int, directory: Path, name: str) -> Proposer:
    """The search that the space asks for, over at most `trials` configurations."""
    if space.search == "bayes":
        return Bayes(space, seed=seed, journal=directory / "optuna.journal", name=name)
    if space.search == "grid":
        return Listed(space.grid()[:trials])
    rng = random.Random(seed)
    return Listed([space.sample(rng) for _ in range(trials)])


def catch_up(proposer: Proposer, records: Iterable[TrialRecord], metric: str) -> None:
    """Tell a resumed search what ended since it last heard, and skip what it has listed already."""
    for record in records:
        if isinstance(proposer, Listed):
            proposer.propose(record.key)
        elif record.outcome is not None:
            proposer.finish(record.key, record.outcome, record.last(metric))


def _suggest(trial: Any, parameter: Parameter) -> Any:
    path, low, high = parameter.path, parameter.low, parameter.high
    if parameter.distribution in ("constant", "categorical"):
        choices = [json.dumps(value) for value in parameter.values]
        return json.loads(trial.suggest_categorical(path, choices))
    if parameter.distribution == "int_uniform":
        return trial.suggest_int(path, low, high)
    logarithmic = parameter.distribution in ("log_uniform_values", "q_log_uniform_values")
    value = trial.suggest_float(path, low, high, log=logarithmic)
    return value if parameter.q is None else parameter.round(value)

"""Proposers of configurations: a list (grid, random, finalists) or one of Optuna's samplers."""

from __future__ import annotations

import itertools
import json
import logging
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from raydistill.records.journal import Outcome, TrialRecord
from raydistill.storage import Remote, StoragePath
from raydistill.sweep.search.distributions import asked, distribution_of, suggest
from raydistill.sweep.search.space import CONTINUOUS, Space

Settings = dict[str, Any]
Metrics = dict[str, float]
STARTUP_TRIALS = 6  # random trials before a model proposes
REPEATS = 20  # proposals of known settings before an untried one is drawn


@dataclass(frozen=True)
class PriorTrials:
    """Results of another sweep.

    `results`: settings with their metrics, where trials count as this sweep's own; `hints`: settings worth a trial
    of their own, since they were found for other data, budget or defaults.
    """

    results: list[tuple[Settings, Metrics]] = field(default_factory=list)
    hints: list[Settings] = field(default_factory=list)


class Proposer(Protocol):
    """Proposes settings and is told what became of them. None: nothing is left to try."""

    def propose(self, key: str) -> Settings | None: ...
    def propose_with(self, key: str, given: Mapping[str, Any]) -> Settings | None:
        """Propose the given settings, completed where they leave something open; None where nothing is left to try."""

    def has(self, given: Mapping[str, Any]) -> bool:
        """Return whether something with the given settings is left to try."""

    def observe(self, key: str, epoch: int, metrics: Metrics) -> None:
        """Take the metrics of one epoch of a trial.

        Args:
            key: the trial.
            epoch: which one.
            metrics: its numbers.
        """

    def finish(self, key: str, outcome: Outcome, metrics: Metrics) -> None:
        """Take the end of a trial.

        Args:
            key: the trial.
            outcome: how it ended.
            metrics: the last value of each.
        """


class FixedProposer:
    """Settings known beforehand, in order."""

    def __init__(self, settings: Iterable[Settings]) -> None:
        self._rest = list(settings)

    def propose(self, key: str) -> Settings | None:
        return self._rest.pop(0) if self._rest else None

    def propose_with(self, key: str, given: Mapping[str, Any]) -> Settings | None:
        return dict(given)

    def has(self, given: Mapping[str, Any]) -> bool:
        return True

    def skip(self, record: TrialRecord) -> None:
        """Leave out what a trial of before a resume tried."""
        self.propose(record.key)

    def observe(self, key: str, epoch: int, metrics: Metrics) -> None:
        pass

    def finish(self, key: str, outcome: Outcome, metrics: Metrics) -> None:
        pass


class RandomProposer(FixedProposer):
    """Random settings, drawn beforehand so that a resume has the same; what is added is completed at random, too."""

    def __init__(self, settings: Iterable[Settings], space: Space, seed: int) -> None:
        super().__init__(settings)
        self._space, self._seed = space, seed

    def propose_with(self, key: str, given: Mapping[str, Any]) -> Settings | None:
        rng = random.Random(f"{self._seed} {key}")
        return self._space.propose(lambda p: given[p.path] if p.path in given else p.sample(rng))

    def skip(self, record: TrialRecord) -> None:
        if not record.added:
            super().skip(record)


class GridProposer(FixedProposer):
    """The points of a grid, each once; what is added is the first point with these values."""

    def __init__(self, points: list[Settings], trials: int) -> None:
        super().__init__(points[:trials])
        self._untried = list(points)

    def propose(self, key: str) -> Settings | None:
        point = super().propose(key)
        if point is not None:
            self._untried.remove(point)
        return point

    def propose_with(self, key: str, given: Mapping[str, Any]) -> Settings | None:
        point = self._first(given)
        if point is not None:
            self._leave_out(point)
        return point

    def has(self, given: Mapping[str, Any]) -> bool:
        return self._first(given) is not None

    def skip(self, record: TrialRecord) -> None:
        self._leave_out(record.settings)

    def _first(self, given: Mapping[str, Any]) -> Settings | None:
        return next((point for point in self._untried if all(point.get(p) == v for p, v in given.items())), None)

    def _leave_out(self, point: Settings) -> None:
        for points in (self._untried, self._rest):
            if point in points:
                points.remove(point)


# docs/architecture.md#optuna-without-optunasearch
class BayesProposer:
    """Search by one of Optuna's samplers.

    Early-stopped trials are reported as pruned with their curve, failed ones as failed, so that no score of a short
    budget passes for a full one; no trial is left running.

    tpe: multivariate, with constant liar. gp: a Gaussian process. cmaes: for real numbers, other parameters are
    drawn at random. nsga2: genetic, for several metrics.

    No settings are proposed twice: a second trial would repeat the first. None is left when all of a space of lists
    were.

    The study is a file in the sweep's directory, and a resumed sweep goes on with it; where that is no
    directory of this machine, `remember` makes it anew.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        journal: StoragePath,
        name: str,
        earlier: PriorTrials | None = None,
        trials: int = 0,
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").propagate = False
        self._optuna = optuna
        self._space, self._seed, self._count = space, seed, trials
        self._study = optuna.create_study(
            study_name=name,
            storage=None if isinstance(journal, Remote) else JournalStorage(JournalFileBackend(str(journal))),
            sampler=_sampler(space, seed, trials),
            directions=[goal for _, goal in space.objectives],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([metric for metric, _ in space.objectives])
        self._trials: dict[str, Any] = {}
        self._proposed: set[str] = set()
        if earlier is not None and not self._study.get_trials(deepcopy=False):
            self._learn(earlier)

    def remember(self, records: Iterable[TrialRecord]) -> None:
        """Take in the trials of before that the study does not know, and draw other random numbers than they did."""
        states = self._optuna.trial.TrialState
        records = list(records)
        if records:
            # The sampler's random numbers begin anew with a process: the first trials would be proposed once more.
            self._study.sampler = _sampler(self._space, self._seed + len(records), self._count)
        proposed = {record.key for record in records}
        self._proposed |= {_text(record.settings) for record in records}
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if trial.user_attrs.get("key") not in proposed:
                # Asked for in the moment of a kill, and never tried.
                self._study.tell(trial.number, state=states.FAIL)
        known = {trial.user_attrs.get("key") for trial in self._study.get_trials(deepcopy=False)}
        ends = {"finished": states.COMPLETE, "stopped_early": states.PRUNED, "failed": states.FAIL}
        names = [name for name, _ in self._space.objectives]
        for record in records:
            if record.key in known:
                continue
            metrics, state = record.latest(), states.RUNNING if record.outcome is None else ends[record.outcome]
            if state == states.COMPLETE and not all(name in metrics for name in names):
                state = states.FAIL
            searched = [p for p in self._space.parameters if p.path in record.settings]
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    state=state,
                    params={p.path: asked(p, record.settings[p.path]) for p in searched},
                    distributions={p.path: distribution_of(p) for p in searched},
                    values=[metrics[name] for name in names] if state == states.COMPLETE else None,
                    intermediate_values={
                        epoch: found[self._space.metric]
                        for epoch, found in record.results.items()
                        if self._space.metric in found and not self._space.also
                    },
                    user_attrs={"key": record.key},
                )
            )

    def propose(self, key: str) -> Settings | None:
        for _ in range(REPEATS):
            trial, settings = self._ask()
            if _text(settings) not in self._proposed:
                break
            trial.set_user_attr("repeated", True)
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        else:
            drawn = self._draw_untried()
            if drawn is None:
                return None
            searched = [p for p in self._space.parameters if p.path in drawn]
            self._study.enqueue_trial({p.path: asked(p, drawn[p.path]) for p in searched})
            trial, settings = self._ask()
        trial.set_user_attr("key", key)
        self._trials[key] = trial
        self._proposed.add(_text(settings))
        return settings

    def propose_with(self, key: str, given: Mapping[str, Any]) -> Settings | None:
        # Optuna's queue is served in its order, and hints of other sweeps may wait in it.
        by_path = {parameter.path: parameter for parameter in self._space.parameters}
        fixed = {path: asked(by_path[path], value) for path, value in given.items()}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                system_attrs={"fixed_params": fixed},
                user_attrs={"key": key},
            )
        )
        trial = self._open(key)
        settings = self._space.propose(lambda parameter: suggest(trial, parameter))
        self._proposed.add(_text(settings))
        return settings

    def has(self, given: Mapping[str, Any]) -> bool:
        return True

    def observe(self, key: str, epoch: int, metrics: Metrics) -> None:
        # Optuna keeps no curves of several metrics.
        if not self._space.also and self._space.metric in metrics and (trial := self._open(key)):
            trial.report(metrics[self._space.metric], epoch)

    def finish(self, key: str, outcome: Outcome, metrics: Metrics) -> None:
        trial = self._open(key)
        if trial is None:
            return
        states = self._optuna.trial.TrialState
        names = [name for name, _ in self._space.objectives]
        if outcome == "finished" and all(name in metrics for name in names):
            self._study.tell(trial.number, [metrics[name] for name in names])
        elif outcome == "stopped_early":
            self._study.tell(trial.number, state=states.PRUNED)
        else:
            self._study.tell(trial.number, state=states.FAIL)
        del self._trials[key]

    def _ask(self) -> tuple[Any, Settings]:
        trial = self._study.ask()
        return trial, self._space.propose(lambda parameter: suggest(trial, parameter))

    def _draw_untried(self) -> Settings | None:
        """Settings at random that no trial has, of the first thousand; None where there are none."""
        rng = random.Random(self._seed + len(self._proposed))
        if any(p.distribution in CONTINUOUS for p in self._space.parameters):
            return self._space.sample(rng)
        untried = (each for each in self._space.combinations() if _text(each) not in self._proposed)
        found = list(itertools.islice(untried, 1000))
        return rng.choice(found) if found else None

    def _learn(self, earlier: PriorTrials) -> None:
        names = [name for name, _ in self._space.objectives]
        for settings, metrics in earlier.results:
            known = [p for p in self._space.parameters if p.path in settings]
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    params={p.path: asked(p, settings[p.path]) for p in known},
                    distributions={p.path: distribution_of(p) for p in known},
                    values=[metrics[name] for name in names],
                    user_attrs={"earlier": True},
                )
            )
        by_path = {parameter.path: parameter for parameter in self._space.parameters}
        for settings in earlier.hints:
            self._study.enqueue_trial({path: asked(by_path[path], value) for path, value in settings.items()})

    def _open(self, key: str) -> Any | None:
        """The running Optuna trial of `key`, found in the study after a resume."""
        if key not in self._trials:
            running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
            for frozen in running:
                if frozen.user_attrs.get("key") == key:
                    self._trials[key] = self._optuna.trial.Trial(self._study, frozen._trial_id)
        return self._trials.get(key)


def make_proposer(
    space: Space,
    *,
    trials: int,
    seed: int,
    directory: StoragePath,
    name: str,
    earlier: PriorTrials | None = None,
    tried: Sequence[Settings] = (),
) -> Proposer:
    """Make the search that the space asks for.

    Args:
        space: what to search, and how.
        trials: configurations at most.
        seed: of the search.
        directory: of the sweep, where Optuna's study lives.
        name: of the study.
        earlier: results of other sweeps.
        tried: settings that this sweep proposed before a resume.
    """
    if space.search == "bayes":
        if earlier is not None:
            earlier = replace(earlier, hints=[hint for hint in earlier.hints if hint not in tried])
        journal = directory / "optuna.journal"
        return BayesProposer(space, seed=seed, journal=journal, name=name, earlier=earlier, trials=trials)
    if space.search == "grid":
        return GridProposer(space.grid(), trials)
    rng = random.Random(seed)
    first = earlier.hints if earlier else []
    drawn = [*first, *(space.sample(rng) for _ in range(trials - len(first)))]
    return RandomProposer(drawn, space, seed)


def observe_past_trials(proposer: Proposer, records: Iterable[TrialRecord]) -> None:
    """Tell a resumed search what ended since it last last_delivered_epoch, and skip what it has listed already."""
    records = list(records)
    if isinstance(proposer, BayesProposer):
        proposer.remember(records)
    for record in records:
        if isinstance(proposer, FixedProposer):
            proposer.skip(record)
        elif record.outcome is not None:
            proposer.finish(record.key, record.outcome, record.latest())


def _sampler(space: Space, seed: int, trials: int) -> Any:
    from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, TPESampler

    startup = min(STARTUP_TRIALS, max(trials // 2, 1)) if trials else STARTUP_TRIALS
    if space.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=startup)
    if space.sampler == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    if space.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=max(2, min(50, trials // 4)) if trials else 50)
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def _text(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)

"""Teachers that a sweep trains before it searches: each once, as a trial of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.identity import fingerprint
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import publish
from raydistill.config import Config, ConfigError
from raydistill.planning.resolve import TeacherRun, redraw_teachers
from raydistill.sweep.context import Phase
from raydistill.sweep.display.progress import pluralize
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search.baselines import baselines_of
from raydistill.sweep.search.samplers import FixedProposer
from raydistill.sweep.search.space import CONTINUOUS
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.trial_spec import TrialSpec

PREFIX = "teacher-"


def required_teachers(settings: SweepSettings) -> list[Config]:
    """The base configuration under every combination of searched teacher settings, or the arms of an experiment.

    Raises: ConfigError for a range where a teacher's setting needs values.
    """
    if settings.arms:
        return [arm.config for arm in settings.arms]
    searched = [p for p in settings.space.parameters if p.path.startswith("teacher.")]
    for parameter in searched:
        if parameter.distribution in CONTINUOUS:
            raise ConfigError(f"parameters.{parameter.path}: each value trains a teacher; give values, not a range")
    paths = [parameter.path for parameter in searched]
    base = configuration.dump(settings.base)
    combinations = itertools.product(*(parameter.grid() for parameter in searched))
    return [configuration.load(configuration.assign(base, dict(zip(paths, c, strict=True)))) for c in combinations]


def compared_configs(plan: SweepPlan, winner: Config | None = None) -> list[Config]:
    """The configurations of the baselines, as compared with a winner, or with the base configuration."""
    if plan.settings.arms:
        return []
    best = winner or plan.settings.base
    return [plan.baseline_config(each, best) for each in baselines_of(plan.settings.baselines, best)]


def missing_teachers(plan: SweepPlan, store: Store) -> dict[str, TeacherRun]:
    """Return the runs that the teachers of the sweep and of its baselines still need, by the name of their trial.

    Args:
        plan: of the sweep.
        store: where teachers are.
    """
    configs = [*required_teachers(plan.settings), *compared_configs(plan)]
    runs = [run for config in configs for run in plan.teacher_runs(config)]
    return {PREFIX + run.key: run for run in runs if store.by_key("teacher", run.key) is None}


def missing_redrawn_teachers(plan: SweepPlan, store: Store, configs: Sequence[Config]) -> dict[str, TeacherRun]:
    """Return the runs that teachers of the final's later seeds still need, by the name of their trial.

    There are none unless the sweep redraws its teachers.

    Args:
        plan: of the sweep.
        store: where teachers are.
        configs: whose teachers are redrawn.
    """
    draws = range(1, plan.settings.seeds) if plan.settings.redraw_teachers else ()
    runs = [run for draw in draws for config in configs for run in plan.teacher_runs(redraw_teachers(config, draw))]
    return {PREFIX + run.key: run for run in runs if store.by_key("teacher", run.key) is None}


def redrawn_epochs(plan: SweepPlan, store: Store, winner: Config | None = None) -> int:
    """Trial-epochs of the teachers that the final's later seeds still need, at most; the baselines share them.

    Args:
        plan: of the sweep.
        store: where teachers are.
        winner: whose teachers they are; None: the base configuration's.
    """
    best = winner or plan.settings.base
    taught = [config for config in (best, *compared_configs(plan, best)) if config.method.teacher_output()]
    return sum(run.config.train.epochs for run in missing_redrawn_teachers(plan, store, taught[:1]).values())


def train_missing_teachers(settings: SweepSettings, driver: Driver, store: Store) -> None:
    """Train the teachers that the search needs and the store lacks; decide on those that the final may need.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives the teachers.

    Raises:
        SweepError: a teacher could not be trained.
    """
    # docs/architecture.md#one-resolution-per-trial
    missing_redrawn_teachers(driver.plan, store, [*required_teachers(settings), *compared_configs(driver.plan)])
    failures = _train(settings, driver, store, missing_teachers(driver.plan, store), "first")
    if failures:
        raise SweepError(failures[0])


def train_redrawn_teachers(settings: SweepSettings, driver: Driver, store: Store, configs: Sequence[Config]) -> None:
    """Train the teachers of the final's later seeds, if the sweep redraws them.

    After one that fails the final goes on without the seed, as after any final run that fails.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives the teachers.
        configs: the configurations of the final.
    """
    runs = missing_redrawn_teachers(driver.plan, store, configs)
    for failure in _train(settings, driver, store, runs, "for the other seeds"):
        driver.progress.note(f"warning: {failure}")


# docs/architecture.md#teachers-as-trials
def _train(settings: SweepSettings, driver: Driver, store: Store, runs: dict[str, TeacherRun], when: str) -> list[str]:
    """Train teachers as trials that MLflow shows like any other, and put them into the store.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives the teachers.
        runs: of the teachers, by the name of their trial.
        when: they are trained, in words.

    Returns: what became of those that failed.
    """
    if not runs:
        return []
    dataset = driver.plan.images(settings.base.data)
    seen = fingerprint(dataset.train)
    if any(run.provenance["images"]["fingerprint"] != seen for run in runs.values()):
        raise ConfigError(f"{settings.base.data.source}: the images have changed since the sweep was started")
    keys = list(runs)
    driver.progress.trials += len(keys)
    described = ", ".join(dict.fromkeys(_described(run.config) for run in runs.values()))
    driver.progress.note(f"training {pluralize(len(keys), 'teacher')} {when}: {described}")
    proposer = FixedProposer([{"teacher": key} for key in keys if key not in driver.journal.trials])
    epochs = max(run.config.train.epochs for run in runs.values())
    records = driver.run(
        Phase(
            role="teacher",
            trials=len(keys),
            epochs=epochs,
            metric=settings.space.metric,
            goal=settings.space.goal,
            proposer=proposer,
            key=lambda index: keys[index],
            resolve=lambda chosen: TrialSpec(runs[chosen["teacher"]].config),
        )
    )
    failures = []
    for record in records:
        state = latest_checkpoint(driver.trial_directory(record.key)) if record.outcome == "finished" else None
        if state is None:
            failures.append(f"the teacher {record.key} failed: {record.message or record.outcome}")
        else:
            publish(store, runs[record.key].provenance, runs[record.key].config, state)
    return failures


def _described(recipe: Config) -> str:
    options: Any = recipe.method
    most = "" if recipe.train.patience is None else "at most "
    return f"{options.name} on {options.backbone}, {most}{recipe.train.epochs} epochs"

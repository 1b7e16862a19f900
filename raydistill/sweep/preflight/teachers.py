"""Teachers that a sweep trains before it searches: each once, as a trial of its own."""

from __future__ import annotations

import itertools
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.identity import fingerprint
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import publish
from raydistill.config import Config, ConfigError
from raydistill.planning.resolve import TeacherRun
from raydistill.sweep.context import Phase
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.progress import pluralize
from raydistill.sweep.search.baselines import baselines_of
from raydistill.sweep.search.samplers import FixedProposer
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.space import CONTINUOUS
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.trial_spec import TrialSpec

PREFIX = "teacher-"


def required_teachers(settings: SweepSettings) -> list[Config]:
    """The base configuration under every combination of searched teacher settings.

    Raises: ConfigError for a range where a teacher's setting needs values.
    """
    searched = [p for p in settings.space.parameters if p.path.startswith("teacher.")]
    for parameter in searched:
        if parameter.distribution in CONTINUOUS:
            raise ConfigError(f"parameters.{parameter.path}: each value trains a teacher; give values, not a range")
    paths = [parameter.path for parameter in searched]
    base = configuration.dump(settings.base)
    combinations = itertools.product(*(parameter.grid() for parameter in searched))
    return [configuration.load(configuration.assign(base, dict(zip(paths, c, strict=True)))) for c in combinations]


def missing_teachers(plan: SweepPlan, store: Store) -> dict[str, TeacherRun]:
    """Return the runs that the teachers of the sweep and of its baselines still need, by the name of their trial.

    Args:
        plan: of the sweep.
        store: where teachers are.
    """
    settings = plan.settings
    compared = [plan.baseline_config(each, settings.base) for each in baselines_of(settings.baselines, settings.base)]
    runs = [run for config in [*required_teachers(settings), *compared] for run in plan.teacher_runs(config)]
    return {PREFIX + run.key: run for run in runs if store.by_key("teacher", run.key) is None}


# docs/architecture.md#teachers-as-trials
def train_missing_teachers(settings: SweepSettings, driver: Driver, store: Store) -> None:
    """Train the missing teachers as trials that MLflow shows like any other, and put them into the store.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives the teachers.

    Raises:
        SweepError: a teacher could not be trained.
    """
    dataset = driver.plan.images(settings.base.data)
    runs = missing_teachers(driver.plan, store)
    if not runs:
        return
    seen = fingerprint(dataset.train)
    if any(run.provenance["images"]["fingerprint"] != seen for run in runs.values()):
        raise ConfigError(f"{settings.base.data.source}: the images have changed since the sweep was started")
    keys = list(runs)
    driver.progress.trials += len(keys)
    described = ", ".join(_described(run.config) for run in runs.values())
    driver.progress.note(f"training {pluralize(len(keys), 'teacher')} first: {described}")
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
            scheduler=lambda: make_scheduler(settings.without_early_stop(), settings.base.method.name, epochs, []),
        )
    )
    for record in records:
        state = latest_checkpoint(driver.trial_directory(record.key)) if record.outcome == "finished" else None
        if state is None:
            raise SweepError(f"the teacher {record.key} failed: {record.message or record.outcome}")
        run = runs[record.key]
        publish(store, run.provenance, run.config, state)


def _described(recipe: Config) -> str:
    options: Any = recipe.method
    return f"{options.name} on {options.backbone}, {recipe.train.epochs} epochs"

"""What a sweep makes before it searches: the teachers that nobody gave, each once, as trials of their own."""

from __future__ import annotations

import itertools
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts import teachers
from raydistill.artifacts.store import Store, key_of
from raydistill.config import Config, ConfigError
from raydistill.data.sources import Dataset, load_dataset
from raydistill.sweep.context import Phase
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.progress import pluralize
from raydistill.sweep.search.samplers import FixedProposer
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.space import CONTINUOUS
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoints import latest_checkpoint

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


def missing_teachers(settings: SweepSettings, store: Store, dataset: Dataset) -> dict[str, Config]:
    """The runs that the sweep's teachers still need, by the name of their trial."""
    found: dict[str, Config] = {}
    for config in required_teachers(settings):
        for recipe in teachers.teacher_configs(config):
            made = teachers.provenance(recipe, dataset)
            if store.find("teacher", made) is None:
                found[PREFIX + key_of("teacher", made)] = recipe
    return found


def train_missing_teachers(settings: SweepSettings, driver: Driver, store: Store) -> None:
    """Train what is missing, as trials that MLflow shows like any other, and keep it as artifacts.

    Raises: SweepError.
    """
    dataset = load_dataset(settings.base.data)
    recipes = missing_teachers(settings, store, dataset)
    if not recipes:
        return
    keys = list(recipes)
    driver.progress.trials += len(keys)
    described = ", ".join(map(_described, recipes.values()))
    driver.progress.note(f"training {pluralize(len(keys), 'teacher')} first: {described}")
    proposer = FixedProposer([{"teacher": key} for key in keys if key not in driver.journal.trials])
    epochs = max(recipe.train.epochs for recipe in recipes.values())
    records = driver.run(
        Phase(
            role="teacher",
            trials=len(keys),
            epochs=epochs,
            metric=settings.space.metric,
            goal=settings.space.goal,
            proposer=proposer,
            key=lambda index: keys[index],
            resolve=lambda chosen: configuration.dump(recipes[chosen["teacher"]]),
            scheduler=lambda: make_scheduler(settings.without_early_stop(), settings.base.method.name, epochs, []),
        )
    )
    for record in records:
        state = latest_checkpoint(driver.trial_directory(record.key)) if record.outcome == "finished" else None
        if state is None:
            raise SweepError(f"the teacher {record.key} failed: {record.message or record.outcome}")
        recipe = recipes[record.key]
        teachers.publish(store, teachers.provenance(recipe, dataset), recipe, state)


def _described(recipe: Config) -> str:
    options: Any = recipe.method
    return f"{options.name} on {options.backbone}, {recipe.train.epochs} epochs"

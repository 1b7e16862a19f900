"""What a sweep would do, and what it would cost."""

from __future__ import annotations

from functools import partial

import yaml

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.sweep.outbox import without_password
from raydistill.sweep.settings import SweepSettings


def describe(plan: SweepSettings) -> str:
    """What it will take, by a short measured probe of the base configuration; then every setting.

    Raises: BadImage; DataError.
    """
    import torch

    from raydistill.data.sources import load_dataset
    from raydistill.evaluation.online import evaluate
    from raydistill.sweep import estimate
    from raydistill.sweep.prerequisites import missing
    from raydistill.sweep.sizing import FIRST
    from raydistill.training.pace import MissingTeacher, measure

    store = open_store(plan.artifacts)
    dataset = load_dataset(plan.base.data)
    recipes = missing(plan, store, dataset)
    probe = partial(measure, store=store, evaluate=evaluate, workers=plan.workers, threads=plan.threads)
    pace = probe(plan.base)
    teachers = [MissingTeacher(key, recipe.train.epochs, probe(recipe)) for key, recipe in recipes.items()]
    cost = estimate.estimate(
        pace, trials=plan.trials, epochs=plan.epochs, finalists=plan.finalists, learners=plan.learners or FIRST,
        packs=plan.packs, early_stop=plan.space.early_terminate, every=plan.base.eval.every, teachers=teachers,
        checkpoints=1, price_per_hour=plan.limits.price_per_hour, accelerators=plan.packs * plan.workers,
    )  # fmt: skip
    work = {
        "sweep": plan.name,
        "directory": str(plan.directory),
        "tracking_uri": without_password(plan.tracking_uri),
        "images": {
            **{split: len(getattr(dataset, split)) for split in ("train", "val", "test")},
            "classes": len(dataset.classes) if dataset.train.labels is not None else "no labels",
            "trained at": f"{dataset.image_size} px",
        },
        "work": {
            "teachers to train first": len(teachers),
            "trials": plan.trials,
            "finalists at most": plan.finalists,
            "epochs of each": plan.epochs,
            "steps per epoch": len(dataset.train) // plan.base.data.batch_size,
        },
        "estimate": {
            **estimate.describe(cost),
            "of": f"the base configuration, measured here ({'GPU' if torch.cuda.is_available() else 'CPU'}) over some "
            "steps; communication between workers and the last scores on the test split are left out",
        },
        "search_space": plan.space.to_dict(),
        "configuration": configuration.dump(plan.base),
    }
    return yaml.safe_dump(work, sort_keys=False, width=100)

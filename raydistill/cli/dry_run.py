"""Dry run: the work of a sweep, and its estimated cost."""

from __future__ import annotations

import math
from functools import partial

import yaml

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.redaction import redact_values
from raydistill.sweep.settings import SweepSettings


def describe(plan: SweepSettings) -> str:
    """Describe the work, its cost by a short benchmark of the base configuration, and every setting.

    Raises:
        BadImageError, DataError: the images cannot be read.
    """
    import torch

    from raydistill.evaluation.online import evaluate
    from raydistill.sweep.plan import SweepPlan
    from raydistill.sweep.preflight import cost
    from raydistill.sweep.preflight.given_teachers import describe_given_teachers
    from raydistill.sweep.preflight.step_benchmark import MissingTeacher, benchmark_step, but_seed
    from raydistill.sweep.preflight.teachers import (
        compared_configs,
        missing_redrawn_teachers,
        missing_teachers,
        required_teachers,
    )
    from raydistill.sweep.search.baselines import baselines_of
    from raydistill.sweep.workers.capacity import INITIAL_LEARNERS

    store = open_store(plan.artifacts)
    decided = SweepPlan(plan)
    dataset = decided.images(plan.base.data)
    runs = missing_teachers(decided, store)
    benchmark = partial(benchmark_step, store=store, evaluate=evaluate, workers=plan.workers, threads=plan.threads)
    timings = benchmark(plan.base)
    compared = baselines_of(plan.baselines, plan.base)
    baselines = [
        cost.BaselineRuns(
            benchmark(decided.baseline_config(each, plan.base)), plan.baseline_trials, plan.final_runs_of(each.name)
        )
        for each in compared
    ]
    taught = plan.base.method.teacher_output() is not None
    redrawn = missing_redrawn_teachers(
        decided, store, required_teachers(plan)[:1] if taught else compared_configs(decided)
    )
    redrawn = {key: run for key, run in redrawn.items() if key not in runs}
    alike = {but_seed(run.config): run.config for run in (runs | redrawn).values()}
    paces = {kind: benchmark(config) for kind, config in alike.items()}
    teachers = [
        MissingTeacher(key, run.config.train.epochs, paces[but_seed(run.config)])
        for key, run in (runs | redrawn).items()
    ]
    estimated = cost.estimate(
        timings,
        trials=plan.trials,
        epochs=plan.epochs,
        final_runs=plan.final_runs - plan.baseline_final_runs,
        learners=plan.learners or max(INITIAL_LEARNERS, plan.seeds_per_trial),
        packs=plan.packs,
        seeds=plan.seeds_per_trial,
        early_stop=plan.space.early_terminate,
        every=plan.base.eval.every,
        teachers=teachers,
        baselines=baselines,
        checkpoints=1,
        price_per_hour=plan.limits.price_per_hour,
        accelerators=math.ceil(plan.packs / (plan.packs_per_gpu if plan.gpu else 1)) * plan.workers,
    )
    work = {
        "sweep": plan.name,
        "directory": str(plan.directory),
        "tracking_uri": plan.tracking_uri,
        "images": {
            **{split: len(images) for split, images in dataset.splits.items()},
            "classes": len(dataset.classes) if dataset.bank.labels is not None else "no labels",
            "trained at": f"{dataset.image_size} px",
        },
        **({"teachers": given} if (given := list(describe_given_teachers(plan, store, dataset))) else {}),
        "work": {
            "teachers to train first": len(runs),
            **({"teachers of the other seeds": len(redrawn)} if plan.redraw_teachers else {}),
            "trials": plan.trials,
            **({"seeds of each trial": plan.seeds_per_trial} if plan.seeds_per_trial > 1 else {}),
            "trials of each baseline": {each.name: plan.baseline_trials for each in compared} or "no baseline",
            "final runs at most": plan.final_runs,
            "epochs of each": plan.epochs,
            "steps per epoch": len(dataset.train) // plan.base.data.batch_size,
        },
        "estimate": {
            **cost.describe(estimated),
            "of": f"the base configuration, measured here ({'GPU' if torch.cuda.is_available() else 'CPU'}) over some "
            "steps; communication between workers and the last scores on the test split are left out",
        },
        "search_space": plan.space.to_dict(),
        "configuration": configuration.dump(plan.base),
    }
    return yaml.safe_dump(redact_values(work), sort_keys=False, width=100)

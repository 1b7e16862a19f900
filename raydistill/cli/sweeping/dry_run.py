"""Dry run: the work of a sweep, and its estimated cost."""

from __future__ import annotations

import math
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.redaction import redact_values
from raydistill.sweep.settings import SweepSettings

if TYPE_CHECKING:
    from raydistill.data.sources import Dataset


def describe(plan: SweepSettings) -> str:
    """Describe the work, its cost by a short benchmark of the base configuration, and every setting.

    Raises:
        BadImageError, DataError: the images cannot be read.
    """
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

    if plan.arms:
        return _describe_arms(plan)
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
        **_where(plan, dataset),
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
            "of": f"the base configuration, {_measured()}",
        },
        "search_space": plan.space.to_dict(),
        "configuration": configuration.dump(plan.base),
    }
    return yaml.safe_dump(redact_values(work), sort_keys=False, width=100)


def _describe_arms(plan: SweepSettings) -> str:
    """Describe the arms of an experiment and what they cost, by a short benchmark of each kind of network.

    Args:
        plan: of the experiment.
    """
    from raydistill.evaluation.online import evaluate
    from raydistill.sweep.plan import SweepPlan
    from raydistill.sweep.preflight import cost
    from raydistill.sweep.preflight.step_benchmark import MissingTeacher, StepTimings, benchmark_step, but_seed
    from raydistill.sweep.preflight.teachers import missing_teachers
    from raydistill.sweep.workers.capacity import INITIAL_LEARNERS

    store = open_store(plan.artifacts)
    decided = SweepPlan(plan)
    dataset = decided.images(plan.base.data)
    runs = missing_teachers(decided, store)
    benchmark = partial(benchmark_step, store=store, evaluate=evaluate, workers=plan.workers, threads=plan.threads)
    paces: dict[str, StepTimings] = {}
    measured = []
    for arm in plan.arms:
        method = arm.config.method
        kind = f"{method.name} {getattr(method, 'backbones', None) or method.student_backbone()}"
        if kind not in paces:
            paces[kind] = benchmark(arm.config)
        measured.append(cost.BaselineRuns(paces[kind], plan.arm_trials, plan.seeds - (1 if plan.arm_trials else 0)))
    of_teachers = {
        kind: benchmark(config) for kind, config in {but_seed(r.config): r.config for r in runs.values()}.items()
    }
    estimated = cost.estimate(
        measured[0].timings,
        trials=0,
        epochs=round(fmean(arm.config.train.epochs for arm in plan.arms)),
        learners=plan.learners or INITIAL_LEARNERS,
        packs=plan.packs,
        every=plan.base.eval.every,
        teachers=[
            MissingTeacher(key, run.config.train.epochs, of_teachers[but_seed(run.config)]) for key, run in runs.items()
        ],
        baselines=measured,
        checkpoints=1,
        price_per_hour=plan.limits.price_per_hour,
        accelerators=math.ceil(plan.packs / (plan.packs_per_gpu if plan.gpu else 1)) * plan.workers,
    )
    described = cost.describe(estimated)
    described.pop("of which baseline search", None)
    work = {
        "experiment": {key: plan.experiment[key] for key in ("name", "title", "source", "scale", "notes")},
        **_where(plan, dataset),
        "work": {
            "teachers to train first": len(runs),
            "arms": {arm.name: arm.settings for arm in plan.arms},
            "seeds of each": plan.seeds,
            **({"trials of each arm's own search": plan.arm_trials} if plan.arm_trials else {}),
            "runs": len(plan.arms) * (plan.seeds + max(plan.arm_trials - 1, 0)),
            "epochs of each": sorted({arm.config.train.epochs for arm in plan.arms}),
            "steps per epoch": len(dataset.train) // plan.base.data.batch_size,
        },
        "estimate": {**described, "of": f"each kind of network, {_measured()}"},
    }
    return yaml.safe_dump(redact_values(work), sort_keys=False, width=100)


def _where(plan: SweepSettings, dataset: Dataset) -> dict[str, Any]:
    """Describe the place of a sweep, and its images."""
    return {
        "sweep": plan.name,
        "directory": str(plan.directory),
        "tracking_uri": plan.tracking_uri,
        "images": {
            **{split: len(images) for split, images in dataset.splits.items()},
            "classes": len(dataset.classes) if dataset.bank.labels is not None else "no labels",
            "trained at": f"{dataset.image_size} px",
        },
    }


def _measured() -> str:
    """Say where an estimate comes from."""
    import torch

    device = "GPU" if torch.cuda.is_available() else "CPU"
    return (
        f"measured here ({device}) over some steps; the start, communication between workers and the last scores on "
        "the test split are left out"
    )

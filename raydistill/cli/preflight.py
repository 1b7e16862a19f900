"""What cannot work is said before Ray starts."""

from __future__ import annotations

from dataclasses import replace

import typer

from raydistill.artifacts.store import open_store
from raydistill.cli.arguments import data_errors
from raydistill.config import Config, ConfigError
from raydistill.sweep.checks import check_batch_sizes, check_values
from raydistill.sweep.settings import SweepSettings


def say_what_cannot_happen(plan: SweepSettings) -> None:
    """Refuse a population that never copies; say so where early stopping never stops, or a warm-up never ends."""
    if (population := plan.space.population) and population.interval >= plan.epochs:
        raise ConfigError(f"population.interval = {population.interval}: trials of {plan.epochs} epochs never copy")
    if (stop := plan.space.early_terminate) and stop.min_iter >= plan.epochs:
        typer.echo(
            f"early_terminate.min_iter = {stop.min_iter}: trials of {plan.epochs} epochs are never stopped early"
        )
    if (warmup := plan.base.train.warmup_epochs) >= plan.epochs:
        typer.echo(f"train.warmup_epochs = {warmup:g}: trials of {plan.epochs} epochs never reach their learning rate")


def check_teacher(base: Config, paths: list[str]) -> None:
    """Refuse settings of a teacher where the method has none. SSSD's choice of labels decides that for itself."""
    useless = [path for path in paths if path.startswith("teacher.")]
    if useless and base.method.teacher_output() is None and "method.labels" not in paths:
        raise ConfigError(
            f"{useless[0]}: {base.method.name} learns from no frozen teacher; seed, simreg, sssd, compress_1q, "
            "compress_2q, crd, cc, clusterfit, regress, regress_bn and supervised_kd do"
        )


def preflight(plan: SweepSettings) -> tuple[SweepSettings, int]:
    """Open the data, take the teachers in and build the method once, so that what cannot work is said before
    Ray starts.

    Returns: the plan with its splits' sizes, its teachers named by their keys in the store, and the number of
    training images.
    """
    if plan.most_workers is None and plan.base.data.batch_size % plan.workers:
        raise ConfigError(f"data.batch_size = {plan.base.data.batch_size} does not divide among {plan.workers} workers")
    from raydistill import methods
    from raydistill.data.sources import load_dataset
    from raydistill.data.stream import Stream
    from raydistill.sweep.prerequisites import wanted_configs
    from raydistill.training.prepare import located, promised, promised_counts

    store = open_store(plan.artifacts, plan.artifacts_gib)
    with data_errors():
        dataset = load_dataset(plan.base.data)
        Stream(
            dataset.train, size=dataset.image_size, batch_size=plan.base.data.batch_size, seed=0,
            normalize=((0.5,) * 3, (0.5,) * 3), world=plan.most_workers or plan.workers,
        )  # fmt: skip
        check_batch_sizes(plan.space, 1 if plan.most_workers else plan.workers, len(dataset.train))
        splits = {name: len(getattr(dataset, name)) for name in ("train", "val", "test")}
        base = located(plan.base, store, dataset.image_size)
        called = dict(zip(base.teacher.sources, plan.base.teacher.sources, strict=True))
        plan = replace(plan, base=base, images=splits, teachers=called)
        for config in wanted_configs(plan):
            given = promised(config, dataset, store)
            methods.build(config.method, given, seed=0)

        def build(config: Config) -> None:
            counts = promised_counts(config, dataset)
            methods.build(config.method, replace(given, class_counts=counts), seed=0)

        check_values(plan, build)
        labelled = dataset.train.labels is not None
    if labelled == (plan.space.metric == "val_instance"):
        wanted = "val_knn" if labelled else "val_instance"
        raise ConfigError(
            f"metric.name = {plan.space.metric!r}: {plan.base.data.source} has {'' if labelled else 'no '}labels; "
            f"use {wanted!r} (in a copy of the search space, given with --search-space)"
        )
    return plan, len(dataset.train)

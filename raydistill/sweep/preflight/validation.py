"""Refusals before Ray starts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from raydistill.artifacts.store import open_store
from raydistill.config import Config, ConfigError, data_errors
from raydistill.evaluation.protocols import knn_protocol
from raydistill.evaluation.tasks.names import check_tasks
from raydistill.options.momentum import MAX_INITIAL_SHARE, SAFE_WINDOW
from raydistill.presets.sizes import fit_sizes
from raydistill.redaction import redact
from raydistill.sweep.display.progress import pluralize
from raydistill.sweep.preflight.checks import check_batch_sizes, check_values
from raydistill.sweep.search.adapt import fit_to_images
from raydistill.sweep.search.space import Space, changes_loss_scale
from raydistill.sweep.settings import SweepSettings

PAUSING = ("hyperband", "bohb")
FEW_STEPS = 4  # of an epoch, below which a smaller batch is worth a thought
LOOKED_AT = 64  # images, to say how they were understood


def say_what_cannot_happen(plan: SweepSettings, notify: Callable[[str], None]) -> None:
    """Refuse a population that never copies; say so where early stopping never stops, or a warm-up never ends."""
    if plan.base.train.patience is not None:
        raise ConfigError(
            f"train.patience = {plan.base.train.patience}: trials of different length do not compare; early_terminate "
            "stops the weak ones, and teacher.patience ends the teacher's training"
        )
    if (population := plan.space.population) and population.interval >= plan.epochs:
        raise ConfigError(f"population.interval = {population.interval}: trials of {plan.epochs} epochs never copy")
    if plan.space.population and plan.base.train.checkpoint_every > 1:
        raise ConfigError(
            f"train.checkpoint_every = {plan.base.train.checkpoint_every}: a population copies the weights of any epoch"
        )
    if (stop := plan.space.early_terminate) and stop.type in PAUSING and plan.base.train.checkpoint_every > 1:
        raise ConfigError(
            f"train.checkpoint_every = {plan.base.train.checkpoint_every}: {stop.type} pauses trials, which would go "
            "on from an older checkpoint each time"
        )
    if (stop := plan.space.early_terminate) and stop.min_iter >= plan.epochs:
        notify(
            f"note: trials of {plan.epochs} epochs are never stopped early, since the search space decides after "
            f"{stop.min_iter} at the soonest (early_terminate.min_iter)"
        )
    if (warmup := plan.base.train.warmup_epochs) >= plan.epochs:
        notify(f"train.warmup_epochs = {warmup:g}: trials of {plan.epochs} epochs never reach their learning rate")
    if plan.redraw_teachers and plan.seeds == 1:
        notify("--redraw-teachers: with one seed nothing is drawn anew")


def say_what_stays_random(config: Config, steps: int, notify: Callable[[str], None]) -> None:
    """Say so where a momentum network keeps more than 1 % of its initial weights until the end.

    Args:
        config: of the run.
        steps: optimisation steps of the run.
        notify: gets the line.
    """
    ema = config.method.ema()
    if ema is not None and (share := ema.initial_share(steps)) > MAX_INITIAL_SHARE:
        notify(
            f"method.{ema.setting} = {ema.first(steps):g}: after {steps} steps the momentum network still has "
            f"{share:.2g} of its initial random weights; --set method.momentum_window={SAFE_WINDOW} fits it to the run"
        )


def check_objectives(plan: SweepSettings, notify: Callable[[str], None], *, resume: bool) -> None:
    """Refuse to minimise the training loss over settings that change its scale.

    Args:
        plan: what is to run.
        notify: gets the refusal as a warning where a sweep of before goes on.
        resume: whether it does.

    Raises: ConfigError, which names the setting.
    """
    if "loss" not in [name for name, _ in plan.space.objectives]:
        return
    for path in (p.path for p in plan.space.parameters if changes_loss_scale(p, plan.base.method)):
        problem = (
            f"metric.name = 'loss': it does not compare between values of {path}, which change its scale; use "
            f"val_knn (val_instance without labels), or give {path} one value"
        )
        if not resume:
            raise ConfigError(problem)
        notify(f"warning: {problem}")


def check_teacher(plan: SweepSettings, fixed: Collection[str]) -> None:
    """Refuse settings of a teacher that none of the arms has; those that are searched must be the method's.

    SSSD's choice of labels decides for itself whether it has one. The teacher of a baseline alone is one for all
    winners, so it is not searched.

    Args:
        plan: what is to run.
        fixed: the paths that were set.

    Raises: ConfigError, which names the setting.
    """
    searched = [parameter.path for parameter in plan.space.parameters]
    if plan.base.method.teacher_output() is not None or "method.labels" in (*fixed, *searched):
        return
    varied = [path for path in searched if path.startswith("teacher.") and path not in fixed]
    useless = varied or [path for path in fixed if path.startswith("teacher.")]
    if varied or (useless and not _has_taught_baseline(plan)):
        besides = "and that of a baseline is not searched" if varied else "and neither does a baseline"
        raise ConfigError(
            f"{useless[0]}: {plan.base.method.name} learns from no frozen teacher, {besides}; seed, simreg, sssd, "
            "seed_blocks, simreg_exits, compress_1q, compress_2q, crd, cc, clusterfit, regress, regress_bn and "
            "supervised_kd do"
        )


def _has_taught_baseline(plan: SweepSettings) -> bool:
    """Return whether a baseline learns from a frozen teacher."""
    from raydistill.sweep.plan import SweepPlan
    from raydistill.sweep.preflight.teachers import compared_configs

    return any(config.method.teacher_output() for config in compared_configs(SweepPlan(plan)))


def check_redraw(plan: SweepSettings) -> None:
    """Refuse to redraw teachers that are given, or where there is nothing to redraw. SSSD's labels may be searched."""
    from raydistill.sweep.plan import SweepPlan
    from raydistill.sweep.preflight.teachers import compared_configs

    if plan.base.teacher.sources:
        raise ConfigError(
            "--redraw-teachers: a teacher that is given cannot be drawn anew; leave --teacher out, and teachers are "
            "trained, or leave --redraw-teachers out"
        )
    methods = [config.method for config in (plan.base, *compared_configs(SweepPlan(plan)))]
    clusters = any(source.kind != "true" for method in methods if (source := method.label_source()) is not None)
    searched = "method.labels" in [parameter.path for parameter in plan.space.parameters]
    if not clusters and not searched and not any(method.teacher_output() for method in methods):
        raise ConfigError(f"--redraw-teachers: {plan.base.method.name} has neither a frozen teacher nor clusters")


def preflight(
    plan: SweepSettings,
    notify: Callable[[str], None],
    *,
    own_space: bool = False,
    chosen: Collection[str] | None = None,
) -> SweepSettings:
    """Open the data, take the teachers in and build the method once, before Ray starts.

    Args:
        plan: what is to run.
        notify: gets a line where the plan is changed.
        own_space: whether the search space was given, rather than the method's own.
        chosen: paths of settings that were given, while the preset's may be fitted to the images; None: all were.

    Returns: the plan with what its images are, its teachers named by their keys in the store, sizes and a space that
        fit the number of images, a metric that images without labels have, and the rows that its baselines may have.
    """
    if plan.most_workers is None and plan.base.data.batch_size % plan.workers:
        raise ConfigError(f"data.batch_size = {plan.base.data.batch_size} does not divide among {plan.workers} workers")
    from raydistill import methods
    from raydistill.artifacts.identity import contents
    from raydistill.data.overview import overview
    from raydistill.data.sources import load_dataset
    from raydistill.data.stream import Stream
    from raydistill.planning.prepare import located, promised, promised_counts
    from raydistill.sweep.plan import SweepPlan
    from raydistill.sweep.preflight.baselines import check_baselines, describe_baselines
    from raydistill.sweep.preflight.teachers import required_teachers

    check_tasks(plan.base.eval.tasks)
    store = open_store(plan.artifacts, plan.artifacts_gib)
    with data_errors():
        dataset = load_dataset(plan.base.data)
        understood = tuple(overview(dataset, LOOKED_AT))
        for line in understood:
            notify(line)
        if plan.base.data.kind == "auto" and dataset.kind == "characters":
            notify(
                "the digits are augmented as characters: never mirrored, crops keep 70 %; "
                "--kind photographs takes the recipes as published"
            )
        if chosen is not None:
            workers = 1 if plan.most_workers else plan.workers
            sizes = fit_sizes(plan.base, len(dataset.train), given=chosen, multiple=workers, notify=notify)
            plan = replace(plan, base=sizes)
        stream = Stream(
            dataset.train,
            size=dataset.image_size,
            batch_size=plan.base.data.batch_size,
            seed=0,
            normalize=((0.5,) * 3, (0.5,) * 3),
            world=plan.most_workers or plan.workers,
        )
        if chosen is not None and "data.batch_size" not in chosen and stream.steps_per_epoch < FEW_STEPS:
            notify(
                f"note: with the preset's data.batch_size = {plan.base.data.batch_size}, an epoch of "
                f"{len(dataset.train)} images has {pluralize(stream.steps_per_epoch, 'step')}; a smaller batch has more"
            )
        plan = replace(plan, space=fit_to_images(plan.space, len(dataset.train), notify, shipped=not own_space))
        say_what_stays_random(plan.base, plan.epochs * stream.steps_per_epoch, notify)
        check_batch_sizes(plan.space, 1 if plan.most_workers else plan.workers, len(dataset.train))
        splits = {name: len(images) for name, images in dataset.splits.items()}
        base = located(plan.base, store, dataset.image_size)
        called = dict(zip(base.teacher.sources, plan.base.teacher.sources, strict=True))
        plan = replace(plan, base=base, images=splits, image_size=dataset.image_size, teachers=called)
        plan = replace(plan, overview=understood, contents=contents(dataset))
        advice: list[str] = []
        for config in required_teachers(plan):
            given = promised(config, dataset, store)
            advice += methods.advice(methods.build(config.method, given, seed=0))

        def build(config: Config) -> methods.Method:
            counts = promised_counts(config, dataset)
            built = methods.build(config.method, replace(given, class_counts=counts), seed=0)
            advice.extend(methods.advice(built))
            return built

        if knn_protocol(plan.base.eval).on_head and build(base).head() is None:
            notify(f"eval.knn = seed: {base.method.name} has no SSL head, so k-NN compares the encoder's features")
        check_values(plan, build)
        decided = SweepPlan(plan)
        own_augmentations = check_baselines(
            decided, lambda config: methods.build(config.method, promised(config, dataset, store), seed=0)
        )
        describe_baselines(decided, notify)
        for line in dict.fromkeys(advice):
            notify(line)
    plan = replace(plan, own_augmentations=own_augmentations)
    return replace(plan, space=_scored(plan, notify, labelled=dataset.bank.labels is not None, own_space=own_space))


def _scored(plan: SweepSettings, notify: Callable[[str], None], *, labelled: bool, own_space: bool) -> Space:
    """The space with a metric that there is: of a space that ships, the one that goes without labels where none are.

    Raises: ConfigError where the metric of a space of one's own cannot be had.
    """
    labelless = ("val_instance", "val_rank")
    wanted, missing = ("val_knn", labelless) if labelled else ("val_instance", ("val_knn",))
    absent = next((name for name, _ in plan.space.objectives if name in missing), None)
    if absent is None:
        return plan.space
    if own_space:
        source = redact(plan.base.data.labelled or plan.base.data.source)
        raise ConfigError(f"metric.name = {absent!r}: {source} has {'' if labelled else 'no '}labels; use {wanted!r}")
    notify(f"{redact(plan.base.data.source)} has no labels: trials are scored by {wanted} instead of {absent}")
    return replace(plan.space, metric=wanted)

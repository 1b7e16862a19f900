"""Options of an experiment, made into settings of a sweep that can run. Free of torch until the images are opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.store import Store, open_store
from raydistill.config import Config, ConfigError, data_errors
from raydistill.evaluation.tasks.names import TOY, check_tasks
from raydistill.experiments.catalogue import load_experiment
from raydistill.experiments.scales import Arm, Given, ScaledExperiment, load_scale, scaled
from raydistill.experiments.table import describe_experiment
from raydistill.records.locations import next_name, source_of, teacher_of
from raydistill.storage import StoragePath
from raydistill.sweep.arms.finished import is_whole
from raydistill.sweep.more_trials import stored_trials
from raydistill.sweep.options import check_options, home_of, means_of, settings_of, several
from raydistill.sweep.preflight.validation import LOOKED_AT, say_what_stays_random
from raydistill.sweep.search.space import Space
from raydistill.sweep.settings import SweepSettings, with_own_teacher

# Options of a search; an experiment says itself what it compares.
REFUSED = (
    *("search_space", "warm_start", "baseline", "baseline_trials", "baseline_search"),
    *("finalists", "seeds_per_trial", "preset", "labelled"),
)


def prepare_experiment(
    experiment: str,
    scale: str,
    *,
    images: Mapping[str, str] | None = None,
    resume: bool = False,
    command: str = "",
    notify: Callable[[str], None] = print,
    **options: Any,
) -> SweepSettings:
    """Check everything that can be known before an experiment starts.

    Args:
        experiment: name in the catalogue, or the path of a file of one's own.
        scale: paper, small, cpu or smoke.
        images: sources by the names that the experiment's tasks use.
        resume: whether the sweep is there already, with the same settings, and goes on.
        command: what was typed.
        notify: gets a line about each setting that has no effect, or that was changed.
        **options: as `raydistill sweep` has them, but for those of a search.

    Returns: settings that `run_sweep` takes.
    Raises: ConfigError for what cannot work.
    """
    asked: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    check_options(asked)
    for name in REFUSED:
        if name in asked:
            raise ConfigError(f"--{name.replace('_', '-')}: an experiment says itself what it compares; leave it out")
    for name in ("max_hours", "max_worker_hours", "max_epochs"):
        if name in asked:
            raise ConfigError(
                f"--{name.replace('_', '-')}: an experiment trains all of its arms, and would compare less if it ended "
                "early; --dry-run says how long it takes"
            )
    found = load_experiment(experiment)
    chosen = settings_of(asked)
    if chosen.get("data.labelled") is not None:
        raise ConfigError("data.labelled: an experiment trains and scores on the same images; leave it out")
    home = home_of(asked)
    source = chosen.pop("data.source", None)
    name = asked["name"] if "name" in asked else next_name(home, _stem(found.name, scale), resume)
    given = Given(
        data=source,
        images={name: _place(name, place) for name, place in (images or {}).items()},
        teachers=tuple(_teacher(home, each) for each in several(asked.get("teacher"))),
        settings=chosen,
        seeds=asked.get("seeds"),
        trials=asked.get("trials") or (stored_trials(home / name) if resume and found.search else None),
    )
    _check_settings(found.name, chosen, [arm.method for arm in found.arms])
    ready = scaled(found, load_scale(scale), given)
    if "trials" in asked and not found.search:
        raise ConfigError(f"--trials: {experiment} searches nothing; it has {len(ready.arms)} arms")
    arms = tuple(replace(arm, config=with_own_teacher(arm.config)) for arm in ready.arms)
    settings = SweepSettings(
        **means_of(asked, home),
        name=name,
        base=arms[0].config,
        space=Space("grid", "val_knn", "maximize", None, None, ()),
        trials=len(arms),
        seeds=ready.seeds,
        search_seed=asked.get("search_seed", 0),
        redraw_teachers=asked.get("redraw_teachers", False),
        preset=ready.scale.preset,
        command=command,
        arms=arms,
        arm_trials=ready.trials,
        experiment=describe_experiment(ready),
    )
    settings.check_name(resume=resume)
    if resume and not any(arm.config.teacher.sources for arm in arms) and is_whole(settings):
        settings.check_unchanged()
        return settings  # nothing will be trained, so no images are opened
    settings = preflight_arms(settings, ready, notify)
    if resume:
        settings.check_unchanged()
    return settings


def preflight_arms(plan: SweepSettings, ready: ScaledExperiment, notify: Callable[[str], None]) -> SweepSettings:
    """Open the data, take the teachers in and build every arm's method once, before Ray starts.

    Args:
        plan: what is to run.
        ready: the experiment.
        notify: gets a line about what is to be known.

    Returns: the plan with what its images are, and with teachers named by their keys in the store.
    Raises: ConfigError, which names the arm.
    """
    from raydistill import methods
    from raydistill.artifacts.identity import contents
    from raydistill.data.overview import overview
    from raydistill.data.sources import load_dataset
    from raydistill.planning.prepare import promised

    batch_size = plan.base.data.batch_size
    if plan.most_workers is None and batch_size % plan.workers:
        raise ConfigError(f"data.batch_size = {batch_size} does not divide among {plan.workers} workers")
    store = open_store(plan.artifacts, plan.artifacts_gib)
    with data_errors():
        dataset = load_dataset(plan.base.data)
        understood = tuple(overview(dataset, LOOKED_AT))
        for line in understood:
            notify(line)
        if batch_size > len(dataset.train):
            raise ConfigError(f"data.batch_size = {batch_size}: there are {len(dataset.train)} images to train on")
        arms, called, advice = list[Arm](), dict[str, str](), dict[str, None]()
        for arm in plan.arms:
            config, own = _located(arm.config, store, dataset.image_size)
            called |= own
            arms.append(replace(arm, config=config))
            check_tasks(config.eval.tasks)
            try:
                given = promised(config, dataset, store)
            except ValueError as error:
                teacher = config.teacher.method
                raise ConfigError(
                    f"arm {arm.name}: its teacher, which {teacher} would train first: {error}; give one with --teacher"
                ) from None
            try:
                built = methods.build(config.method, given, seed=0)
            except ValueError as error:
                raise ConfigError(f"arm {arm.name}: {error}") from None
            advice |= dict.fromkeys(methods.advice(built))
            steps = config.train.epochs * (len(dataset.train) // batch_size)
            say_what_stays_random(config, steps, lambda line, name=arm.name: notify(f"{name}: {line}"))  # type: ignore[misc]
        for line in advice:
            notify(line)
    labelled = dataset.bank.labels is not None
    metric = "val_knn" if labelled else "val_instance"
    return replace(
        plan,
        arms=tuple(arms),
        base=arms[0].config,
        teachers=called,
        space=replace(plan.space, metric=metric),
        images={name: len(images) for name, images in dataset.splits.items()},
        image_size=dataset.image_size,
        overview=understood,
        contents=contents(dataset),
    )


def _located(config: Config, store: Store, image_size: int) -> tuple[Config, dict[str, str]]:
    """The configuration with its teachers taken into the store, and what those were called."""
    from raydistill.planning.prepare import located

    if config.method.teacher_output() is None or not config.teacher.sources:
        return config, {}
    found = located(config, store, image_size)
    return found, dict(zip(found.teacher.sources, config.teacher.sources, strict=True))


def _check_settings(name: str, chosen: Mapping[str, Any], methods: list[str]) -> None:
    """Refuse settings that no arm has."""
    known = {path for method in dict.fromkeys(methods) for path in configuration.fields(method)}
    for path in chosen:
        if path not in known:
            raise ConfigError(f"--set {path}: no arm of {name} has such a setting{configuration.nearest(path, known)}")


def _place(name: str, place: str) -> str:
    """The source of images that a task uses: a path is made absolute, names stay."""
    return place if place in (TOY, "none") else source_of(f"--images {name}", place)


def _teacher(home: StoragePath, text: str) -> str:
    """A teacher as typed, `NAME=SOURCE` or a source alone, with its source made absolute."""
    name, _, source = text.partition("=")
    if source and "/" not in name and ":" not in name:
        return f"{name}={teacher_of(home, source)}"
    return teacher_of(home, text)


def _stem(experiment: str, scale: str) -> str:
    """The name of a sweep without its number: `simreg-head-depth-cpu`; of a file of one's own by the file."""
    own = experiment.endswith((".yaml", ".yml"))
    name = Path(experiment).stem if own else experiment.replace("/", "-")
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')}-{scale}"

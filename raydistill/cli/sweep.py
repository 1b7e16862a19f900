"""`raydistill sweep`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Kind, Set, fail, meanwhile, shown, typed, unread
from raydistill.cli.sweeping.series import chosen, is_series, run_series
from raydistill.config import ConfigError, data_errors
from raydistill.experiments.catalogue import load_experiment
from raydistill.experiments.scales import used_images
from raydistill.redaction import redact
from raydistill.sweep.arms.finished import finished_result
from raydistill.sweep.display.timings import Timings
from raydistill.sweep.options import has_begun, prepare_settings
from raydistill.sweep.settings import SweepSettings

DEFAULT_SCALE = "cpu"


def command(
    method: Annotated[str | None, typer.Option(help="the method to explore, e.g. dogo")] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="a published experiment, e.g. simreg/head-depth; 'simreg/*'; all; or a YAML file of yours"),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="of the experiment: paper, small, cpu, smoke [cpu]")] = None,
    images: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="images of an experiment's tasks; repeatable")
    ] = None,
    data: Annotated[str | None, typer.Option(help="digits, torchvision:NAME, a path, s3://... [digits]")] = None,
    labelled: Annotated[
        str | None, typer.Option(help="images that give the scores, with labels; as --data [labels of --data]")
    ] = None,
    kind: Kind = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="configurations to try [run_cap of the space, else 8; of --resume: as before]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each trial [the preset's]")] = None,
    preset: Annotated[
        str | None, typer.Option(help="default (minutes), cpu (hours), small, paper, ... [default]")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="a run, a checkpoint file, timm:NAME, ...; repeatable [one is trained first]"),
    ] = None,
    settings: Set = None,
    search_space: Annotated[
        str | None, typer.Option(help="YAML file, or paper: every axis of the paper [search_spaces/METHOD.yaml]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the sweep [METHOD-1, -2, ...]")] = None,
    storage: Annotated[str | None, typer.Option(help="where sweeps are kept; also s3://..., gs://... [runs]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
    logger: Annotated[
        list[str] | None, typer.Option(help="tensorboard or wandb, beside MLflow; repeatable [MLflow alone]")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="for the winner and its baselines, or each arm [3, or the scale's]")
    ] = None,
    finalists: Annotated[
        int | None, typer.Option(min=1, help="near-equal trials of each search that get every seed, at most [1]")
    ] = None,
    seeds_per_trial: Annotated[
        int | None,
        typer.Option(min=1, help="seeds of each trial of a search, side by side; their mean is its score [1]"),
    ] = None,
    search_seed: Annotated[int, typer.Option(min=0, help="of the search itself")] = 0,
    redraw_teachers: Annotated[
        bool, typer.Option("--redraw-teachers", help="each seed of the final has teachers and clusters of its own")
    ] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="METHOD, or METHOD:KEY=VALUE, ...; repeatable [the student without distillation]"),
    ] = None,
    baseline_trials: Annotated[
        int | None, typer.Option(min=1, help="configurations of each baseline to try [as many as of the method]")
    ] = None,
    baseline_search: Annotated[
        bool, typer.Option("--baseline-search/--no-baseline-search", help="search each baseline, too")
    ] = True,
    packs: Annotated[int, typer.Option(min=1, help="worker groups at most; they come and go with the trials")] = 1,
    packs_per_gpu: Annotated[int, typer.Option(min=1, help="worker groups that share a GPU")] = 1,
    learners: Annotated[str, typer.Option(help="learners side by side in each group: a number, or auto")] = "auto",
    workers: Annotated[str, typer.Option(help="workers (GPUs) of each group: N, or MIN:MAX as there is room")] = "1",
    threads: Annotated[
        int | None, typer.Option(min=1, help="of each worker, for training and images [its share of the cores]")
    ] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="each worker takes one [if there are any]")] = None,
    artifacts: Annotated[str | None, typer.Option(help="teachers, banks and pseudo labels [artifacts]")] = None,
    artifacts_gib: Annotated[float | None, typer.Option(min=0, help="remove the longest unused beyond this")] = None,
    checkpoints_gib: Annotated[
        float | None, typer.Option(min=0, help="keep the sweep's checkpoints within this, the best ones longest")
    ] = None,
    max_hours: Annotated[float | None, typer.Option(min=0, help="end after these hours, the final included")] = None,
    max_worker_hours: Annotated[float | None, typer.Option(min=0, help="as max-hours, times workers (GPUs)")] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="epochs of all trials together")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="of a worker (GPU) for an hour; shown as money")] = None,
    warm_start: Annotated[
        list[str] | None, typer.Option(help="a sweep's name or folder; start from what it found; repeatable")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would run, and stop")] = False,
    timings: Annotated[bool, typer.Option("--timings", help="print where the time went, at the end")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted sweep, or with more --trials")
    ] = False,
    resume_or_start: Annotated[
        bool,
        typer.Option("--resume-or-start", help="go on with the sweep of this --name if it has begun, else start it"),
    ] = False,
) -> None:
    """Explore a method's hyperparameters, then compare the winner with its un-distilled baseline."""
    if resume_or_start and name is None:
        raise ConfigError("--resume-or-start: give the sweep's --name, too")
    resume = resume or (resume_or_start and name is not None and has_begun(storage, name))
    options = {
        "command": typed(),
        "notify": typer.echo,
        "data": data,
        "labelled": labelled,
        "kind": kind,
        "trials": trials,
        "epochs": epochs,
        "preset": preset,
        "teacher": teacher,
        "set": dict(map(configuration.parse_setting, settings or [])),
        "search_space": search_space,
        "name": name,
        "storage": storage,
        "tracking_uri": tracking_uri,
        "logger": logger,
        "seeds": seeds,
        "finalists": finalists,
        "seeds_per_trial": seeds_per_trial,
        "search_seed": search_seed,
        "redraw_teachers": redraw_teachers or None,
        "baseline": baseline,
        "baseline_trials": baseline_trials,
        "baseline_search": None if baseline_search else False,
        "packs": packs,
        "packs_per_gpu": packs_per_gpu,
        "learners": learners,
        "workers": workers,
        "threads": threads,
        "gpu": gpu,
        "artifacts": artifacts,
        "artifacts_gib": artifacts_gib,
        "checkpoints_gib": checkpoints_gib,
        "max_hours": max_hours,
        "max_worker_hours": max_worker_hours,
        "max_epochs": max_epochs,
        "price": price,
        "warm_start": warm_start,
    }
    if experiment is not None and is_series(experiment):
        names = chosen(experiment)
        prepare = partial(_preparation, method, scale=scale, images=images or [], several=True)
        if dry_run:
            for each in names:
                try:
                    typer.echo(_described(prepare(each)(**options)))
                except ConfigError as error:
                    typer.echo(f"{each}: {error}", err=True)
            return
        try:
            run_series(names, scale or DEFAULT_SCALE, prepare, options)
        except KeyboardInterrupt as stopped:
            fail("interrupted; the same command goes on", 128 + getattr(stopped, "signum", signal.SIGINT))
        return
    meanwhile("reading settings and images")
    plan = _preparation(method, experiment, scale, images or [])(resume=resume, **options)
    if dry_run:
        typer.echo(_described(plan))
        return
    from raydistill.cli.sweeping.summary import conclude, how_to_go_on

    known = finished_result(plan) if resume else None
    say_where(plan, resumed=resume, finished=known is not None)
    if known is not None:
        conclude(plan, known, artifacts=artifacts is not None, tracking=tracking_uri is not None)
        return
    meanwhile("starting Ray and MLflow")
    from raydistill.sweep.run import run_sweep

    took = Timings()
    try:
        result = run_sweep(plan, resume=resume, timings=took)
    except KeyboardInterrupt as stopped:
        signum = getattr(stopped, "signum", signal.SIGINT)
        why = "interrupted" if signum == signal.SIGINT else f"ended by {signal.Signals(signum).name}"
        fail(f"{why}; {how_to_go_on(plan)}", 128 + signum)
    except BrokenPipeError:
        unread(f"; {how_to_go_on(plan)}")
    conclude(plan, result, artifacts=artifacts is not None, tracking=tracking_uri is not None)
    if timings:
        typer.echo(f"\n{took.table().markdown()}")


def _described(plan: SweepSettings) -> str:
    """Describe the work of a sweep, and its cost."""
    from raydistill.cli.sweeping.dry_run import describe

    with data_errors():
        return describe(plan)


def _preparation(
    method: str | None, experiment: str | None, scale: str | None, images: list[str], *, several: bool = False
) -> Callable[..., SweepSettings]:
    """Choose between a search and an experiment.

    Args:
        method: of the search.
        experiment: its name or file.
        scale: of the experiment.
        images: of its tasks, as typed.
        several: whether other experiments may use images that this one does not.

    Raises:
        ConfigError: neither is given, or both.
    """
    if experiment is None:
        if images:
            raise ConfigError(f"--images {images[0]}: belongs to --experiment")
        if scale is not None:
            raise ConfigError(f"--scale {scale}: belongs to --experiment; a method has presets, such as --preset cpu")
        if method is None:
            raise typer.BadParameter(
                "give a method to explore, or an --experiment of the papers", param_hint="--method"
            )
        return partial(prepare_settings, method)
    if method is not None:
        raise ConfigError(f"--method {method} with --experiment: an experiment has its own methods; leave one out")
    places = {}
    for text in images:
        name, equals, place = text.partition("=")
        if not name or not equals or not place:
            raise ConfigError(f"--images {text}: write NAME=PATH, such as davis=data/DAVIS")
        places[name] = place
    scale = scale or DEFAULT_SCALE
    if several:
        used = used_images(load_experiment(experiment), scale)
        places = {name: place for name, place in places.items() if name in used}
    from raydistill.sweep.arms.prepare import prepare_experiment

    return partial(prepare_experiment, experiment, scale, images=places)


def say_where(plan: SweepSettings, *, resumed: bool = False, finished: bool = False) -> None:
    """Print where a sweep and its runs are.

    Args:
        plan: the sweep.
        resumed: whether it had begun before.
        finished: whether nothing of it is left to do.
    """
    goes_on = "; it is finished" if finished else "; it goes on where it was" if resumed else ""
    typer.echo(f"sweep {plan.name} in {shown(plan.directory)}, tracked in {redact(plan.tracking_uri)}{goes_on}")

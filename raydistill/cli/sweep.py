"""`raydistill sweep`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Kind, Set, fail, shown, typed, unread
from raydistill.config import ConfigError, data_errors
from raydistill.redaction import redact
from raydistill.sweep.options import has_begun, prepare_settings
from raydistill.sweep.settings import SweepSettings


def command(
    method: Annotated[str, typer.Option(help="the method to explore, e.g. dogo")],
    data: Annotated[str | None, typer.Option(help="digits, torchvision:NAME, a path, s3://... [digits]")] = None,
    labelled: Annotated[
        str | None, typer.Option(help="images that give the scores, with labels; as --data [labels of --data]")
    ] = None,
    kind: Kind = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="configurations to try [run_cap of the space, else 8]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each trial [the preset's]")] = None,
    preset: Annotated[str, typer.Option(help="default (minutes), cpu (hours), small, paper, ...")] = "default",
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
    seeds: Annotated[int, typer.Option(min=1, help="seeds for the winner and its baselines")] = 3,
    finalists: Annotated[
        int | None, typer.Option(min=1, help="near-equal trials of each search that get every seed, at most [1]")
    ] = None,
    seeds_per_trial: Annotated[
        int, typer.Option(min=1, help="seeds of each trial of a search, side by side; their mean is its score")
    ] = 1,
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
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted sweep")] = False,
    resume_or_start: Annotated[
        bool,
        typer.Option("--resume-or-start", help="go on with the sweep of this --name if it has begun, else start it"),
    ] = False,
) -> None:
    """Explore a method's hyperparameters, then compare the winner with its un-distilled baseline."""
    if resume_or_start and name is None:
        raise ConfigError("--resume-or-start: give the sweep's --name, too")
    resume = resume or (resume_or_start and name is not None and has_begun(storage, name))
    plan = prepare_settings(
        method,
        resume=resume,
        command=typed(),
        notify=typer.echo,
        data=data,
        labelled=labelled,
        kind=kind,
        trials=trials,
        epochs=epochs,
        preset=preset,
        teacher=teacher,
        set=dict(map(configuration.parse_setting, settings or [])),
        search_space=search_space,
        name=name,
        storage=storage,
        tracking_uri=tracking_uri,
        seeds=seeds,
        finalists=finalists,
        seeds_per_trial=seeds_per_trial,
        search_seed=search_seed,
        redraw_teachers=redraw_teachers,
        baseline=baseline,
        baseline_trials=baseline_trials,
        baseline_search=baseline_search,
        packs=packs,
        packs_per_gpu=packs_per_gpu,
        learners=learners,
        workers=workers,
        threads=threads,
        gpu=gpu,
        artifacts=artifacts,
        artifacts_gib=artifacts_gib,
        checkpoints_gib=checkpoints_gib,
        max_hours=max_hours,
        max_worker_hours=max_worker_hours,
        max_epochs=max_epochs,
        price=price,
        warm_start=warm_start,
    )
    if dry_run:
        from raydistill.cli.dry_run import describe

        with data_errors():
            typer.echo(describe(plan))
        return
    say_where(plan, resumed=resume)
    from raydistill.cli.summary import conclude, how_to_go_on
    from raydistill.sweep.run import run_sweep

    try:
        result = run_sweep(plan, resume=resume)
    except KeyboardInterrupt as stopped:
        signum = getattr(stopped, "signum", signal.SIGINT)
        why = "interrupted" if signum == signal.SIGINT else f"ended by {signal.Signals(signum).name}"
        fail(f"{why}; {how_to_go_on(plan)}", 128 + signum)
    except BrokenPipeError:
        unread(f"; {how_to_go_on(plan)}")
    conclude(plan, result, artifacts=artifacts is not None, tracking=tracking_uri is not None)


def say_where(plan: SweepSettings, *, resumed: bool = False) -> None:
    goes_on = "; it goes on where it was" if resumed else ""
    typer.echo(f"sweep {plan.name} in {shown(plan.directory)}, tracked in {redact(plan.tracking_uri)}{goes_on}")

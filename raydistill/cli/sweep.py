"""`raydistill sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import (
    Set,
    artifact_store,
    data_errors,
    fail,
    learners_of,
    next_name,
    shown,
    source_of,
    sweep_folder,
    teacher_of,
    tracking,
    trial_count,
    typed,
    workers_of,
    working_folder,
)
from raydistill.cli.preflight import check_teacher, preflight, say_what_cannot_happen
from raydistill.config import ConfigError
from raydistill.presets import load_preset
from raydistill.records.budget import Limits
from raydistill.redaction import redact
from raydistill.storage import Remote, to_path
from raydistill.sweep.search.space import default_space
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher


def command(
    method: Annotated[str, typer.Option(help="the method to explore, e.g. dogo")],
    data: Annotated[str | None, typer.Option(help="digits, torchvision:NAME, a path, s3://... [digits]")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="configurations to try [run_cap of the space, else 8]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each trial [the preset's]")] = None,
    preset: Annotated[str, typer.Option(help="default (two cores), small (small images), paper, ...")] = "default",
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="a run, a checkpoint file, timm:NAME, ...; repeatable [one is trained first]"),
    ] = None,
    settings: Set = None,
    search_space: Annotated[Path | None, typer.Option(help="YAML file [search_spaces/METHOD.yaml]")] = None,
    name: Annotated[str | None, typer.Option(help="of the sweep [METHOD-1, -2, ...]")] = None,
    storage: Annotated[str | None, typer.Option(help="where sweeps are kept; also s3://..., gs://... [runs]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="seeds for the winner and its baseline")] = 3,
    search_seed: Annotated[int, typer.Option(min=0, help="of the search itself")] = 0,
    packs: Annotated[int, typer.Option(min=1, help="worker groups at most; they come and go with the trials")] = 1,
    learners: Annotated[str, typer.Option(help="trials side by side in each group: a number, or auto")] = "auto",
    workers: Annotated[str, typer.Option(help="workers (GPUs) of each group: N, or MIN:MAX as there is room")] = "1",
    threads: Annotated[int | None, typer.Option(min=1, help="of torch in a CPU worker [all cores, shared]")] = None,
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
) -> None:
    """Explore a method's hyperparameters, then compare the winner with its un-distilled baseline."""
    chosen = dict(map(configuration.parse_setting, settings or []))
    if data is not None:
        chosen["data.source"] = source_of("--data", data)
    if epochs is not None:
        chosen["train.epochs"] = epochs
    if storage == "":
        raise ConfigError("--storage '': give a folder, or an address such as s3://bucket/folder")
    home = to_path(storage or working_folder() / "runs").absolute()
    if isinstance(home, Remote):
        home.probe()
    if "method.name" in chosen:
        raise ConfigError("method.name: choose the method with --method")
    if teacher:
        chosen["teacher.sources"] = [teacher_of(home, given) for given in teacher]
    configuration.options_class(method)
    values = load_preset(method, preset)
    base = with_own_teacher(configuration.load(configuration.assign(values, {"method.name": method} | chosen)))
    space = load_space(search_space or default_space(method), method, chosen, values)
    check_teacher(base, [*chosen, *(p.path for p in space.parameters)])
    least, most = workers_of(workers)
    plan = SweepSettings(
        name=next_name(home, method, resume) if name is None else name,
        storage=home,
        tracking_uri=tracking(tracking_uri),
        base=base,
        space=space,
        trials=trial_count(space, trials),
        seeds=seeds,
        search_seed=search_seed,
        packs=packs,
        learners=learners_of(learners),
        workers=least,
        most_workers=most,
        threads=threads,
        gpu=gpu,
        preset=preset,
        artifacts=artifact_store(artifacts, home),
        artifacts_gib=artifacts_gib,
        limits=Limits(max_hours, max_worker_hours, max_epochs, price),
        checkpoints_gib=checkpoints_gib,
        warm_start=tuple(sweep_folder(home, given) for given in warm_start or []),
        command=typed(),
    )
    say_what_cannot_happen(plan)
    plan.check_name(resume=resume)
    plan = preflight(plan, own_space=search_space is not None)
    if resume:
        plan.check_unchanged()
    if dry_run:
        from raydistill.cli.dry_run import describe

        with data_errors():
            typer.echo(describe(plan))
        return
    say_where(plan)
    from raydistill.cli.summary import conclude, how_to_resume
    from raydistill.sweep.run import run_sweep

    try:
        result = run_sweep(plan, resume=resume)
    except KeyboardInterrupt:
        fail(f"interrupted; go on with: {how_to_resume(plan.name)}", 130)
    conclude(plan, result, artifacts=artifacts is not None, tracking=tracking_uri is not None)


def say_where(plan: SweepSettings) -> None:
    typer.echo(f"sweep {plan.name} in {shown(plan.directory)}, tracked in {redact(plan.tracking_uri)}")

"""Commands and flags; nothing else knows them. Heavy imports wait until the settings are known to be right."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml

from raydistill import __version__
from raydistill import config as configuration
from raydistill.artifacts.store import MANIFEST, ArtifactError, listing, open_store
from raydistill.config import Config, ConfigError
from raydistill.presets import load_preset
from raydistill.storage import Place, Remote, is_remote, place
from raydistill.sweep.budget import Limits
from raydistill.sweep.checks import check_batch_sizes
from raydistill.sweep.outbox import without_password
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.sweep.space import Space, default_space
from raydistill.sweep.space_file import load_space

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Find the hyperparameters that make self-supervised distillation work on your images.",
)  # fmt: skip

DEFAULT_TRIALS = 8
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="fix a setting, e.g. train.lr=0.001; repeatable"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Wrong settings and data exit with 2, failed runs with 1, no traceback."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except ConfigError as error:
        _fail(error, 2)
    except _failures() as error:
        _fail(error, 1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raydistill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Find the hyperparameters that make self-supervised distillation work on your images."""


@app.command()
def sweep(
    method: Annotated[str, typer.Option(help="the method to explore, e.g. dogo")],
    data: Annotated[str | None, typer.Option(help="digits, torchvision:NAME, a path, s3://... [digits]")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="configurations to try [run_cap of the space, else 8]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each trial [the preset's]")] = None,
    preset: Annotated[str, typer.Option(help="default (two cores), small (small images), paper, ...")] = "default",
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="a run's folder, a checkpoint file, timm:NAME, ...; repeatable [one is trained first]"),
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
        chosen["data.source"] = _source(data)
    if epochs is not None:
        chosen["train.epochs"] = epochs
    if "method.name" in chosen:
        raise ConfigError("method.name: choose the method with --method")
    if teacher:
        chosen["teacher.sources"] = list(map(_source, teacher))
    configuration.options_class(method)
    values = load_preset(method, preset)
    base = with_own_teacher(configuration.load(configuration.assign(values, {"method.name": method} | chosen)))
    space = load_space(search_space or default_space(method), method, chosen, values)
    _check_teacher(base, [*chosen, *(p.path for p in space.parameters)])
    if storage == "":
        raise ConfigError("--storage '': give a folder, or an address such as s3://bucket/folder")
    home = place(storage or _home() / "runs").absolute()
    if isinstance(home, Remote):
        home.probe()
    least, most = _workers(workers)
    plan = SweepSettings(
        name=_next_name(home, method, resume) if name is None else name, storage=home,
        tracking_uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home() / 'mlflow.db'}",
        base=base, space=space, trials=_count(space, trials), seeds=seeds, search_seed=search_seed, packs=packs,
        learners=_learners(learners), workers=least, most_workers=most, threads=threads, gpu=gpu, preset=preset,
        artifacts=_artifacts(artifacts, home), artifacts_gib=artifacts_gib,
        limits=Limits(max_hours, max_worker_hours, max_epochs, price), checkpoints_gib=checkpoints_gib,
        warm_start=tuple(_sweep_folder(home, given) for given in warm_start or []),
    )  # fmt: skip
    _check_interval(plan)
    plan, images = _preflight(plan)
    plan.check_start(resume=resume)
    if dry_run:
        typer.echo(_describe(plan, images))
        return
    _say_where(plan)
    from raydistill.sweep.run import run_sweep

    try:
        result = run_sweep(plan, resume=resume)
    except KeyboardInterrupt:
        _fail(f"interrupted; go on with --name {plan.name} --resume", 130)
    typer.echo(f"\n{result.table}\n")
    typer.echo(
        "val and test: k-NN accuracy (%) averaged over k = " + ", ".join(map(str, base.eval.ks))
        + "; test_probe: linear probe; ± standard deviation over seeds; test was scored for selected rows only."
    )  # fmt: skip
    elsewhere = artifacts is not None or isinstance(plan.artifacts, Remote)
    where = f" --artifacts {_shown(plan.artifacts)}" if elsewhere else ""
    typer.echo(f"train the winner alone:  raydistill train {_shown(result.winner)}{where}")
    typer.echo(f"compare the trials:      mlflow ui --backend-store-uri {without_password(plan.tracking_uri)}")


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="a configuration in YAML, e.g. runs/dogo-1/winner.yaml")],
    settings: Set = None,
    out: Annotated[str | None, typer.Option(help="keep checkpoints here, and resume from them")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch on a CPU [all cores]")] = None,
    artifacts: Annotated[str | None, typer.Option(help="teachers, banks and pseudo labels [artifacts]")] = None,
) -> None:
    """Train one configuration alone: the same numbers, on a CPU bit for bit, as in the sweep."""
    values = configuration.read_yaml(place(config))
    if not isinstance(values, dict):
        raise ConfigError(f"{config}: expected a mapping of sections, got {type(values).__name__}")
    run = configuration.load(configuration.assign(values, dict(map(configuration.parse_setting, settings or []))))
    if out is not None and is_remote(out):
        raise ConfigError(f"--out {out}: give a folder of this machine")
    import torch

    from raydistill.data.sources import load_dataset
    from raydistill.evaluation.online import evaluate
    from raydistill.training.messages import Report
    from raydistill.training.prepare import ensure_teachers, located
    from raydistill.training.single import train as train_alone

    if threads is not None:
        torch.set_num_threads(threads)

    def show(report: Report, what: str = "") -> None:
        scores = "  ".join(f"{k} {v:.4f}" for k, v in report.metrics.items() if k.startswith(("loss", "val")))
        of = "" if what else f"/{run.train.epochs}"
        typer.echo(f"{what}epoch {report.epoch}{of}  {scores}")

    store = open_store(_artifacts(artifacts))
    with _data_errors():
        run = located(run, store, load_dataset(run.data).image_size)
        ensure_teachers(
            run, store, store.root / ".training", evaluate=evaluate, on_epoch=partial(show, what="teacher ")
        )
        train_alone(run, None if out is None else Path(out), evaluate=evaluate, on_epoch=show, store=store)


@app.command()
def artifacts(
    root: Annotated[str | None, typer.Option("--artifacts", help="the store [artifacts]")] = None,
    show: Annotated[str | None, typer.Option(help="print what the artifact with this key was made from")] = None,
    remove: Annotated[str | None, typer.Option(help="delete the artifact with this key")] = None,
    prune_gib: Annotated[float | None, typer.Option(min=0, help="delete the longest unused beyond this size")] = None,
) -> None:
    """List teachers, teacher banks and pseudo labels; look into one, remove it, or make room."""
    store = open_store(_artifacts(root))
    try:
        if show is not None:
            typer.echo((store.open(show) / MANIFEST).read_text())
            return
        if remove is not None:
            key = store.open(remove).name
            store.remove(next(entry for entry in store.entries() if entry.key == key))
        if prune_gib is not None:
            for entry in store.prune(prune_gib):
                typer.echo(f"removed {entry.kind} {entry.key}")
        typer.echo(listing(store.entries()))
    except ArtifactError as error:
        raise ConfigError(str(error)) from None


@app.command()
def doctor(
    storage: Annotated[str | None, typer.Option(help="where sweeps are to be kept [runs]")] = None,
    artifacts: Annotated[str | None, typer.Option(help="where teachers and banks are to be kept [artifacts]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster [RAY_ADDRESS, else none]")] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="must there be one [used if there is]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON document")] = False,
) -> None:
    """Say what is wrong with this set-up and how to mend it, within a minute; exit with 1 if anything is."""
    from raydistill.doctor.finding import Setup
    from raydistill.doctor.report import examine

    home = _home()
    setup = Setup(
        storage=storage or str(home / "runs"), artifacts=str(_artifacts(artifacts, place(storage or home / "runs"))),
        tracking_uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        address=address or os.environ.get("RAY_ADDRESS") or None, gpu=gpu,
    )  # fmt: skip
    report = examine(setup)
    typer.echo(report.as_json() if as_json else report.as_text())
    code = 0 if report.healthy else 1
    if report.hung:
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


def _artifacts(given: str | None, sweeps: Place | None = None) -> Place:
    """Where artifacts are kept: beside the sweeps, where those are not on this machine."""
    if given is None and isinstance(sweeps, Remote):
        return sweeps / "_artifacts"
    return place(given or _home() / "artifacts").absolute()


def _check_interval(plan: SweepSettings) -> None:
    """Refuse a population that never copies; say so where early stopping never stops."""
    if (population := plan.space.population) and population.interval >= plan.epochs:
        raise ConfigError(f"population.interval = {population.interval}: trials of {plan.epochs} epochs never copy")
    if (stop := plan.space.early_terminate) and stop.min_iter >= plan.epochs:
        typer.echo(
            f"early_terminate.min_iter = {stop.min_iter}: trials of {plan.epochs} epochs are never stopped early"
        )


def _check_teacher(base: Config, paths: list[str]) -> None:
    """Refuse settings of a teacher where the method has none. SSSD's choice of labels decides that for itself."""
    useless = [path for path in paths if path.startswith("teacher.")]
    if useless and base.method.teacher_output() is None and "method.labels" not in paths:
        raise ConfigError(
            f"{useless[0]}: {base.method.name} learns from no frozen teacher; seed, simreg, sssd, compress_1q, "
            "compress_2q, crd, cc, clusterfit, regress, regress_bn and supervised_kd do"
        )


def _source(data: str) -> str:
    """A path is made absolute, since workers may run elsewhere; names and addresses stay."""
    if is_remote(data):
        return data
    path = Path(str(place(data))).expanduser()
    return str(path.resolve()) if path.exists() else data


def _learners(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--learners {text!r}: give a number of at least 1, or auto")
    return int(text)


def _workers(text: str) -> tuple[int, int | None]:
    """`N` or `MIN:MAX`."""
    least, colon, most = text.partition(":")
    numbers = [int(part) for part in (least, *([most] if colon else [])) if part.isdecimal()]
    if len(numbers) != 1 + bool(colon) or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise ConfigError(f"--workers {text!r}: give a number of at least 1, or a range such as 1:4")
    return numbers[0], numbers[1] if colon else None


def _sweep_folder(home: Place, given: str) -> Place:
    """A sweep's folder, by its name or its path."""
    for folder in [Remote(given)] if is_remote(given) else [home / given, Path(given).expanduser()]:
        if (folder / "journal.jsonl").exists():
            return folder.absolute()
    raise ConfigError(f"--warm-start {given!r}: there is no sweep of that name in {home}, nor in a folder of that path")


def _count(space: Space, trials: int | None) -> int:
    wanted = trials or space.run_cap or (None if space.search == "grid" else DEFAULT_TRIALS)
    if space.search != "grid":
        return wanted or DEFAULT_TRIALS
    size = len(space.grid())
    return min(wanted, size) if wanted else size


def _home() -> Path:
    """Here; but a Ray job's working directory is a passing copy, so there the user's own directory."""
    return Path.home() / "raydistill" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()


def _next_name(home: Place, method: str, resume: bool) -> str:
    names = [folder.name for folder in home.iterdir()] if home.exists() else []
    taken = [int(name.rpartition("-")[2]) for name in names if re.fullmatch(rf"{re.escape(method)}-\d+", name)]
    if resume and not taken:
        raise ConfigError(f"--resume: there is no sweep of {method} in {home}; name it with --name")
    return f"{method}-{max(taken, default=0) + (0 if resume else 1)}"


def _preflight(plan: SweepSettings) -> tuple[SweepSettings, int]:
    """Open the data, take the teachers in and build the method once, so that what cannot work is said before
    Ray starts.

    Returns: the plan, its teachers named by their keys in the store, and the number of training images.
    """
    from raydistill import methods
    from raydistill.data.sources import load_dataset
    from raydistill.data.stream import Stream
    from raydistill.sweep.prerequisites import wanted_configs
    from raydistill.training.prepare import located, promised

    store = open_store(plan.artifacts, plan.artifacts_gib)
    with _data_errors():
        dataset = load_dataset(plan.base.data)
        Stream(
            dataset.train, size=dataset.image_size, batch_size=plan.base.data.batch_size, seed=0,
            normalize=((0.5,) * 3, (0.5,) * 3), world=plan.most_workers or plan.workers,
        )  # fmt: skip
        if plan.most_workers is None and plan.base.data.batch_size % plan.workers:
            raise ConfigError(
                f"data.batch_size = {plan.base.data.batch_size} does not divide among {plan.workers} workers"
            )
        check_batch_sizes(plan.space, 1 if plan.most_workers else plan.workers, len(dataset.train))
        plan = replace(plan, base=located(plan.base, store, dataset.image_size))
        for config in wanted_configs(plan):
            methods.build(config.method, promised(config, dataset, store), seed=0)
        labelled = dataset.train.labels is not None
    if labelled == (plan.space.metric == "val_instance"):
        wanted = "val_knn" if labelled else "val_instance"
        raise ConfigError(
            f"metric.name = {plan.space.metric!r}: {plan.base.data.source} has {'' if labelled else 'no '}labels; "
            f"use {wanted!r} (in a copy of the search space, given with --search-space)"
        )
    return plan, len(dataset.train)


def _describe(plan: SweepSettings, images: int) -> str:
    """The plan, with what it will cost by a short measured probe of the base configuration."""
    import torch

    from raydistill.data.sources import load_dataset
    from raydistill.evaluation.online import evaluate
    from raydistill.sweep.estimate import describe, estimate
    from raydistill.sweep.prerequisites import missing
    from raydistill.sweep.sizing import FIRST
    from raydistill.training.pace import MissingTeacher, measure

    store = open_store(plan.artifacts)
    recipes = missing(plan, store, load_dataset(plan.base.data))
    probe = partial(measure, store=store, evaluate=evaluate, workers=plan.workers, threads=plan.threads)
    pace = probe(plan.base)
    teachers = [MissingTeacher(key, recipe.train.epochs, probe(recipe)) for key, recipe in recipes.items()]
    cost = estimate(
        pace, trials=plan.trials, epochs=plan.epochs, finalists=plan.finalists, learners=plan.learners or FIRST,
        packs=plan.packs, early_stop=plan.space.early_terminate, every=plan.base.eval.every, teachers=teachers,
        checkpoints=1, price_per_hour=plan.limits.price_per_hour, accelerators=plan.packs * plan.workers,
    )  # fmt: skip
    work = {
        "sweep": plan.name,
        "directory": str(plan.directory),
        "tracking_uri": without_password(plan.tracking_uri),
        "configuration": configuration.dump(plan.base),
        "search_space": plan.space.to_dict(),
        "work": {
            "teachers to train first": len(teachers),
            "trials": plan.trials,
            "finalists at most": plan.finalists,
            "epochs of each": plan.epochs,
            "training images": images,
            "steps per epoch": images // plan.base.data.batch_size,
        },
        "estimate": {
            **describe(cost),
            "of": f"the base configuration, measured here ({'GPU' if torch.cuda.is_available() else 'CPU'}) over some "
            "steps; communication between workers and the last scores on the test split are left out",
        },
    }
    return yaml.safe_dump(work, sort_keys=False, width=100)


def _say_where(plan: SweepSettings) -> None:
    typer.echo(f"sweep {plan.name} in {_shown(plan.directory)}, tracked in {without_password(plan.tracking_uri)}")


def _shown(path: Place) -> str:
    if isinstance(path, Remote):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _data_errors:  # noqa: N801 - reads as the statement that it is
    """What is wrong with data or method, known before training, is a wrong setting."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and not isinstance(error, ConfigError):
            raise ConfigError(str(error)) from None


def _failures() -> tuple[type[BaseException], ...]:
    """What a run can end with, of the parts that were loaded."""
    names = {
        "raydistill.artifacts.store": "ArtifactError",
        "raydistill.sweep.run": "SweepFailed",
        "raydistill.sweep.tracking": "TrackingError",
        "raydistill.training.single": "TrainingFailed",
        "raydistill.training.checkpoint_files": "CheckpointError",
    }
    return tuple(getattr(sys.modules[module], name) for module, name in names.items() if module in sys.modules)


def _fail(message: object, code: int) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)

"""`raydistill train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.cli.arguments import Set, artifact_store, data_errors
from raydistill.cli.runs import Storage, Tracking, find_run
from raydistill.config import Config, ConfigError
from raydistill.storage import is_remote, place


def command(
    run: Annotated[
        str,
        typer.Argument(help="a configuration in YAML, or a run: a sweep's name (its winner), SWEEP/TRIAL, a folder"),
    ],
    settings: Set = None,
    out: Annotated[str | None, typer.Option(help="keep checkpoints here, and resume from them")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch on a CPU [all cores]")] = None,
    artifacts: Annotated[str | None, typer.Option(help="teachers, banks and pseudo labels [artifacts]")] = None,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Train one configuration alone: the same numbers, on a CPU bit for bit, as in the sweep."""
    chosen = dict(map(configuration.parse_setting, settings or []))
    if out is not None and is_remote(out):
        raise ConfigError(f"--out {out}: give a folder of this machine")
    config = configuration.load(configuration.assign(_values(run, storage, tracking_uri), chosen))
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
        of = "" if what else f"/{config.train.epochs}"
        typer.echo(f"{what}epoch {report.epoch}{of}  {scores}")

    store = open_store(artifact_store(artifacts))
    with data_errors():
        config = located(config, store, load_dataset(config.data).image_size)
        ensure_teachers(
            config, store, store.root / ".training", evaluate=evaluate, on_epoch=partial(show, what="teacher ")
        )
        if out is not None:
            _keep(config, Path(out))
        train_alone(config, None if out is None else Path(out), evaluate=evaluate, on_epoch=show, store=store)


def _values(run: str, storage: str | None, tracking_uri: str | None) -> dict[str, Any]:
    """The settings in a file, or those of a run with the epochs of the stream that it saw."""
    if run.endswith((".yaml", ".yml")) or (not is_remote(run) and Path(run).is_file()):
        values = configuration.read_yaml(place(run))
        if not isinstance(values, dict):
            raise ConfigError(f"{run}: expected a mapping of sections, got {type(values).__name__}")
        return values
    found = find_run(run, storage, tracking_uri)
    if found.copies:
        typer.echo(f"{found.run} {'; '.join(found.copies)}: alone it will not give the same numbers", err=True)
    return configuration.dump(found.config)


def _keep(config: Config, folder: Path) -> None:
    """The configuration beside its checkpoints makes the folder a run that the other commands take."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = folder / "config.yaml"
        if before.exists() and _but_length(configuration.load(configuration.read_yaml(before))) != _but_length(config):
            raise ConfigError(f"--out {folder}: holds a run of other settings; choose another folder")
        before.write_text(yaml.safe_dump(configuration.dump(config), sort_keys=False))
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written ({error.strerror or error})") from None


def _but_length(config: Config) -> Config:
    """More epochs make no other run of it."""
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})

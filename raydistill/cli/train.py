"""`raydistill train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.cli.arguments import Set, artifact_store, data_errors
from raydistill.config import ConfigError
from raydistill.storage import is_remote, place


def command(
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

    store = open_store(artifact_store(artifacts))
    with data_errors():
        run = located(run, store, load_dataset(run.data).image_size)
        ensure_teachers(
            run, store, store.root / ".training", evaluate=evaluate, on_epoch=partial(show, what="teacher ")
        )
        train_alone(run, None if out is None else Path(out), evaluate=evaluate, on_epoch=show, store=store)

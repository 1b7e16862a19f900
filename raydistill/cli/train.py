"""`raydistill train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Device, Kind, Set
from raydistill.cli.runs import Storage, Tracking
from raydistill.config import ConfigError
from raydistill.export.resolve import find_run
from raydistill.export.run import CheckpointRemovedError
from raydistill.records.locations import artifact_store
from raydistill.storage import is_remote, to_path
from raydistill.sweep.run_folder import RunFolder
from raydistill.sweep.settings import with_own_teacher
from raydistill.training.devices import device_of
from raydistill.trial_spec import TrialSpec

if TYPE_CHECKING:
    import torch

    from raydistill.training.messages import EpochResult


def command(
    run: Annotated[
        str,
        typer.Argument(help="a configuration in YAML, or a run: a sweep's name (its winner), SWEEP/TRIAL, a folder"),
    ],
    settings: Set = None,
    kind: Kind = None,
    out: Annotated[str | None, typer.Option(help="keep checkpoints here, and resume from them")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch on a CPU [the run's, else all cores]")] = None,
    device: Device = None,
    artifacts: Annotated[str | None, typer.Option(help="teachers, banks and pseudo labels [artifacts]")] = None,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Train one configuration alone: the same numbers, on a CPU bit for bit, as in the sweep."""
    chosen = dict(map(configuration.parse_setting, settings or [])) | ({} if kind is None else {"data.kind": kind})
    run_folder = None if out is None else RunFolder(out)
    asked = _asked(run, storage, tracking_uri)
    config = configuration.load(configuration.assign(asked.values, chosen))
    config = with_own_teacher(config if run_folder is None else run_folder.with_its_teacher(config))
    where = _where(asked, device)
    import torch

    from raydistill.sweep.single_run import train_alone

    if where.type == "cpu" and (wanted := threads or asked.threads):
        torch.set_num_threads(wanted)
    trained = 0

    def show(report: EpochResult, what: str = "") -> None:
        nonlocal trained
        trained += not what
        of = "" if what else f"/{config.train.epochs}"
        typer.echo(f"{what}epoch {report.epoch}{of}  {_scores(report)}")
        most = config.teacher.epochs if what else config.train.epochs
        if report.done and most is not None and report.epoch < most:
            typer.echo(f"{what}training ends after {report.epoch} of {most} epochs: the score has settled")

    if not out:
        typer.echo("nothing will be kept; add --out FOLDER to keep the checkpoints")
    last = train_alone(
        TrialSpec(config) if asked.spec is None else asked.spec.with_config(config),
        run_folder,
        artifacts=artifact_store(artifacts),
        device=where,
        on_epoch=show,
        on_teacher_epoch=partial(show, what="teacher "),
        notify=typer.echo,
    )
    if not trained:
        typer.echo(f"{out} is trained already: epoch {last.epoch}  {_scores(last)}")
    if out:
        typer.echo(f"kept in {out}")


def _scores(report: EpochResult) -> str:
    return "  ".join(f"{k} {v:.4f}" for k, v in report.metrics.items() if k.startswith(("loss", "val")))


@dataclass(frozen=True)
class _Asked:
    """Request: the `values` of a configuration; of a run, with the epochs of the stream that it saw.

    `device` is the kind that trained the run and `threads` are torch's; empty and None where nobody said. `spec` has
    the keys of the run's teachers and labels; a file has none.
    """

    values: dict[str, Any]
    device: str = ""
    threads: int | None = None
    spec: TrialSpec | None = None


def _asked(run: str, storage: str | None, tracking_uri: str | None) -> _Asked:
    """The settings in a file, or a run. What keeps the run from being repeated is said."""
    if run.endswith((".yaml", ".yml")) or (not is_remote(run) and Path(run).is_file()):
        values = configuration.read_yaml(to_path(run))
        if not isinstance(values, dict):
            raise ConfigError(f"{run}: expected a mapping of sections, got {type(values).__name__}")
        return _Asked(values)
    try:
        found = find_run(run, storage, tracking_uri)
        name, config, copies, state = found.run, found.config, found.copies, found.state
        spec = found.spec
        metrics = state.get("metrics", {})
    except CheckpointRemovedError as gone:
        name, config, copies = gone.run, gone.config, tuple(map(str, gone.record.copies))
        spec = gone.record.spec
        metrics = gone.record.latest()
        most = max(result.get("workers", 1.0) for result in gone.record.results.values())
        # Threads are counted on a CPU only.
        state = {"workers": int(most), "device": "cpu" if "threads" in metrics else ""}
    workers, threads = state.get("workers", 1), metrics.get("threads")
    if copies:
        typer.echo(f"{name} {'; '.join(copies)}: alone it will not give the same numbers", err=True)
    if workers > 1:
        typer.echo(f"{name} was trained by {workers} workers: one will not give the same numbers", err=True)
    return _Asked(configuration.dump(config), state.get("device", ""), threads and int(threads), spec)


def _where(asked: _Asked, given: str | None) -> torch.device:
    """The device that was asked for, else one of the run's kind; that there is none is said."""
    import torch

    kind = asked.device if given is None else ""
    if kind == "cuda" and not torch.cuda.is_available():
        typer.echo("the run was trained on a GPU and there is none here: the numbers will differ", err=True)
        kind = ""
    return device_of(given or kind or None)

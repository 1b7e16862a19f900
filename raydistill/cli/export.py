"""`raydistill export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raydistill.cli.arguments import shown, tracking, working_folder
from raydistill.config import ConfigError
from raydistill.storage import is_remote, place


def command(
    run: Annotated[str, typer.Argument(help="a sweep's name (its winner), SWEEP/TRIAL, a folder, mlflow:RUN_ID")],
    form: Annotated[str, typer.Option("--format", help="timm, safetensors, onnx, torch-export or mlflow")],
    out: Annotated[str | None, typer.Option(help="the folder to write [exports/RUN-FORMAT]")] = None,
    encoder: Annotated[str | None, typer.Option(help="such as peer_2, block_3, exit_1 [student]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the export that is there")] = False,
    register: Annotated[
        str | None, typer.Option(help="with --format mlflow: make it a version of this model in MLflow's registry")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="where sweeps are kept [runs]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
) -> None:
    """Write a run's encoder in a form that others load, with its preprocessing and a model card."""
    from raydistill.export.formats import check_format, open_format
    from raydistill.export.found import find

    check_format(form)
    if register is not None and form != "mlflow":
        raise ConfigError(f"--register {register}: needs --format mlflow")
    if out is not None and is_remote(out):
        raise ConfigError(f"--out {out}: give a folder of this machine")
    uri = tracking(tracking_uri)
    found = find(run, place(storage or working_folder() / "runs").absolute(), uri)
    suffix = f"-{encoder}" if encoder not in (None, found.encoder) else ""
    folder = Path(out or working_folder() / "exports" / f"{found.name}{suffix}-{form}").expanduser().absolute()
    if not found.complete:
        typer.echo(f"{found.run} is at epoch {found.epoch} of {found.config.train.epochs}; taken as it is", err=True)
    if register is not None:
        from raydistill.export.tracked import Registry

        registry = Registry(found, uri)
    from raydistill.export.write import export

    done = export(found, open_format(form), folder, encoder=encoder, overwrite=overwrite)
    typer.echo(f"{found.run} is in {shown(folder)}; read back, it differs by {done.difference:.1g} on {done.seen}")
    if register is not None:
        typer.echo(f"registered as models:/{register}/{registry.publish(folder, register)}")
    typer.echo(f"\n{done.usage}\n\nin {shown(folder)}, whose README.md says the rest")

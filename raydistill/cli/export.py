"""`raydistill export`."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.cli.arguments import shown
from raydistill.cli.runs import Encoder, Run, Storage, Tracking
from raydistill.config import ConfigError
from raydistill.export.resolve import find_run
from raydistill.records.locations import expanded, tracking, working_folder
from raydistill.storage import is_remote


def command(
    run: Run,
    form: Annotated[str, typer.Option("--format", help="timm, safetensors, onnx, torch-export or mlflow")],
    out: Annotated[str | None, typer.Option(help="the folder to write [exports/RUN-FORMAT]")] = None,
    encoder: Encoder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the export that is there")] = False,
    register: Annotated[
        str | None, typer.Option(help="with --format mlflow: make it a version of this model in MLflow's registry")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="with --format timm: upload it to the Hugging Face Hub")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="with --push: a new model is private")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="with --push: the model's, by the Hub's names, such as mit")
    ] = None,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Write a run's encoder in a form that others load, with its preprocessing and a model card."""
    from raydistill.export.formats import check_format, open_format

    check_format(form)
    if register is not None and form != "mlflow":
        raise ConfigError(f"--register {register}: needs --format mlflow")
    for option, given in (("--private", private), ("--license", licence is not None)):
        if given and push is None:
            raise ConfigError(f"{option}: belongs to --push OWNER/NAME")
    if push is not None:
        from raydistill.export.hub import HubModel

        model = HubModel(push, private, licence)
        model.check(form)
    if out is not None and is_remote(out):
        raise ConfigError(f"--out {out}: give a folder of this machine")
    found = find_run(run, storage, tracking_uri)
    suffix = f"-{encoder}" if encoder not in (None, found.encoder) else ""
    name = f"{found.name}{suffix}-{form}"
    folder = (expanded("--out", out) if out else working_folder() / "exports" / name).absolute()
    if not found.complete:
        typer.echo(f"{found.run} is at epoch {found.epoch} of {found.config.train.epochs}; taken as it is", err=True)
    if register is not None:
        from raydistill.export.mlflow_source import Registry

        registry = Registry(found, tracking(tracking_uri))
    from raydistill.export.write import export

    done = export(found, open_format(form), folder, encoder=encoder, overwrite=overwrite)
    exact = f"read back, its numbers agree within {done.difference:.1g} on {done.seen}"
    typer.echo(f"{found.run} is in {shown(folder)}; {exact}")
    if register is not None:
        typer.echo(f"registered as models:/{register}/{registry.publish(folder, register)}")
    if push is not None:
        typer.echo(f"pushed to {model.push(folder, found)}")
    typer.echo(f"\n{done.usage}\n\nTo load it, in {shown(folder)}; its README.md is the model card.")

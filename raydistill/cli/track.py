"""`raydistill track`."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.records.locations import sweep_folder, working_folder
from raydistill.redaction import redact
from raydistill.storage import to_path


def command(
    folder: Annotated[str, typer.Argument(help="a sweep's name in the storage, its folder, or its s3://... address")],
    tracking_uri: Annotated[str, typer.Option(help="the MLflow that is to hear of it")],
    storage: Annotated[str | None, typer.Option(help="where sweeps are kept; also s3://..., gs://... [runs]")] = None,
) -> None:
    """Tell another MLflow about a sweep, from the sweep's folder: runs, parameters, metrics and files."""
    found = sweep_folder(to_path(storage or working_folder() / "runs").absolute(), folder, "FOLDER")
    from raydistill.tracking.backfill import backfill

    trials = backfill(found, tracking_uri)
    typer.echo(f"{found.name}, {trials} trials: tracked in {redact(tracking_uri)}")

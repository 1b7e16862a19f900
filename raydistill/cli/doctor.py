"""`raydistill doctor`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from raydistill.records.locations import artifact_store, tracking, working_folder
from raydistill.storage import to_path


def command(
    storage: Annotated[str | None, typer.Option(help="where sweeps are to be kept [runs]")] = None,
    artifacts: Annotated[str | None, typer.Option(help="where teachers and banks are to be kept [artifacts]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster [RAY_ADDRESS, else none]")] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="must there be one [used if there is]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON document")] = False,
) -> None:
    """Say what is wrong with this set-up and how to fix it, within a minute; exit with 1 if anything is."""
    from raydistill.doctor.check_result import Setup
    from raydistill.doctor.diagnostics import run_checks

    sweeps = storage or str(working_folder() / "runs")
    setup = Setup(
        storage=sweeps,
        artifacts=str(artifact_store(artifacts, to_path(sweeps))),
        tracking_uri=tracking(tracking_uri),
        address=address or os.environ.get("RAY_ADDRESS") or None,
        gpu=gpu,
    )
    report = run_checks(setup)
    typer.echo(report.as_json() if as_json else report.as_text())
    code = 0 if report.healthy else 1
    if report.hung:
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)

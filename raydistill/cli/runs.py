"""The flags that name a run, and the run that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raydistill.cli.arguments import artifact_store, tracking, working_folder
from raydistill.storage import to_path

if TYPE_CHECKING:
    from raydistill.export.resolve import ResolvedRun

Run = Annotated[
    str,
    typer.Argument(
        help="a sweep's name (its winner), SWEEP/TRIAL, the folder of one or of an export, or mlflow:RUN_ID"
    ),
]
Encoder = Annotated[str | None, typer.Option(help="such as peer_2, block_3 or exit_1 [student]")]
Storage = Annotated[str | None, typer.Option(help="where sweeps are kept [runs]")]
Tracking = Annotated[str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")]


def find_run(given: str, storage: str | None, tracking_uri: str | None) -> ResolvedRun:
    """Raises: ConfigError for what is not there."""
    from raydistill.export.resolve import resolve_run

    home = to_path(storage or working_folder() / "runs").absolute()
    return resolve_run(given, home, tracking(tracking_uri), artifact_store(None, home))

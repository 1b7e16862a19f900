"""The flags that name a run."""

from __future__ import annotations

from typing import Annotated

import typer

Run = Annotated[
    str,
    typer.Argument(
        help="a sweep's name (its winner), SWEEP/TRIAL, the folder of one or of an export, or mlflow:RUN_ID"
    ),
]
Encoder = Annotated[str | None, typer.Option(help="such as peer_2, block_3 or exit_1 [student]")]
Storage = Annotated[str | None, typer.Option(help="where sweeps are kept [runs]")]
Tracking = Annotated[str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")]

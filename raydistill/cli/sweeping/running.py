"""Arguments that name a running sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.config import ConfigError
from raydistill.records.layout import SWEEP_FILE
from raydistill.records.locations import sweep_folder, working_folder
from raydistill.storage import StoragePath, to_path

Name = Annotated[str, typer.Argument(help="of the sweep in the storage, or its folder or s3://... address")]
Place = Annotated[str | None, typer.Option("--storage", help="where sweeps are kept; also s3://..., gs://... [runs]")]


def sweep_of(name: str, storage: str | None) -> StoragePath:
    """The folder of a sweep. Raises: ConfigError where there is none."""
    found = sweep_folder(to_path(storage or working_folder() / "runs").absolute(), name, "NAME")
    if not (found / SWEEP_FILE).exists():
        raise ConfigError(f"{found}: there is no {SWEEP_FILE}, so this is no sweep")
    return found

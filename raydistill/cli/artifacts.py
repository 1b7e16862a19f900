"""`raydistill artifacts`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from raydistill.artifacts.store import CARD, MANIFEST, ArtifactError, listing, open_store
from raydistill.config import ConfigError
from raydistill.records.locations import artifact_store


def command(
    root: Annotated[str | None, typer.Option("--artifacts", help="the store [artifacts]")] = None,
    show: Annotated[str | None, typer.Option(help="print what the artifact with this key was made from")] = None,
    remove: Annotated[str | None, typer.Option(help="delete the artifact with this key")] = None,
    prune_gib: Annotated[float | None, typer.Option(min=0, help="delete the longest unused beyond this size")] = None,
) -> None:
    """List teachers, teacher banks and pseudo labels; look into one, remove it, or make room."""
    store = open_store(artifact_store(root))
    try:
        if show is not None:
            folder = store.open(show)
            about = json.loads((folder / MANIFEST).read_text())
            if (folder / CARD).exists():
                about["trained"] = json.loads((folder / CARD).read_text())
            typer.echo(json.dumps(about, indent=1))
            return
        if remove is not None:
            key = store.open(remove).name
            store.remove(next(entry for entry in store.entries() if entry.key == key))
        if prune_gib is not None:
            for entry in store.prune(prune_gib):
                typer.echo(f"removed {entry.kind} {entry.key}")
        typer.echo(listing(store.entries()))
    except ArtifactError as error:
        raise ConfigError(str(error)) from None

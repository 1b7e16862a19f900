"""`raydistill stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.cli.sweeping.running import Name, Place, sweep_of
from raydistill.config import ConfigError
from raydistill.sweep.control.requests import ask


def command(
    name: Name,
    trials: Annotated[
        list[str] | None, typer.Argument(metavar="[TRIAL]...", help="such as t0007 [none: the search that runs]")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="end the whole sweep in order, as Ctrl-C does; it can be resumed")
    ] = False,
    storage: Place = None,
) -> None:
    """End trials of a running sweep, its search, or the sweep itself, from any machine that sees its folder."""
    if now and trials:
        raise ConfigError(f"--now ends the whole sweep; leave out {' '.join(trials)}, or --now")
    directory = sweep_of(name, storage)
    typer.echo(f"{directory.name}: {ask(directory, 'stop', trials=tuple(dict.fromkeys(trials or ())), now=now)}")

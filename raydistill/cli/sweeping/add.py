"""`raydistill add`."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.sweeping.running import Name, Place, sweep_of
from raydistill.config import ConfigError
from raydistill.records.layout import SWEEP_FILE
from raydistill.sweep.control.requests import ask
from raydistill.sweep.search.given import parse_given
from raydistill.sweep.search.space_parser import parse_space


def command(
    name: Name,
    settings: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE...", help="of the search space, e.g. lr=0.003; the rest is sampled"),
    ],
    storage: Place = None,
) -> None:
    """Have a running search try some settings next. They count as one of its --trials."""
    directory = sweep_of(name, storage)
    stored = configuration.read_yaml(directory / SWEEP_FILE)
    if not isinstance(stored, dict) or "experiment" in stored:
        raise ConfigError(f"sweep {directory.name!r}: an experiment says itself what it compares; nothing can be added")
    method = stored["base"]["method"]["name"]
    space = parse_space(stored["space"], f"the space in {directory.name}/{SWEEP_FILE}", method, {}, stored["base"])
    if space.population is not None:
        raise ConfigError(f"sweep {directory.name!r}: the trials of a population begin together; none can be added")
    typer.echo(f"{directory.name}: {ask(directory, 'add', settings=parse_given(space, settings))}")

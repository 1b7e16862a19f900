"""Commands and flags; nothing else knows them. Heavy imports wait until the settings are known to be right."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from raydistill import __version__
from raydistill.cli import (
    artifacts,
    data,
    doctor,
    embed,
    evaluate,
    experiments,
    export,
    leaderboard,
    report,
    sweep,
    track,
    train,
)
from raydistill.cli.arguments import fail, until_unread
from raydistill.errors import RaydistillError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the hyperparameters that make self-supervised distillation work on your images.",
)
for part in (sweep, experiments, data, train, report, leaderboard, evaluate, export, embed, track, artifacts, doctor):
    app.command(part.__name__.rpartition(".")[2])(until_unread(part.command))


def sweep_alone() -> None:
    """`sweep.py`: the one command, which it need not name."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command()(until_unread(sweep.command))
    words = sys.argv[1:]
    main(words[1:] if words[:1] == ["sweep"] else words, alone)


def main(arguments: Sequence[str] | None = None, commands: typer.Typer = app) -> None:
    """Run the command line. Wrong settings and data exit with 2, failed runs with 1, no traceback."""
    try:
        commands(args=list(arguments) if arguments is not None else None)
    except RaydistillError as error:
        fail(error, error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raydistill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Find the hyperparameters that make self-supervised distillation work on your images."""

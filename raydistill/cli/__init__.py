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
from raydistill.cli.sweeping import add, space, stop
from raydistill.errors import RaydistillError

EXAMPLES = {
    "sweep": (
        "raydistill sweep --method dogo",
        "raydistill sweep --method seed --data photos --teacher timm:vit_small_patch14_dinov2 --trials 32",
        "raydistill sweep --experiment simreg/head-depth --scale cpu",
        "raydistill sweep --method dogo --name dogo-1 --resume --trials 40",
    ),
    "space": ("raydistill space", "raydistill space dogo > my.yaml", "raydistill space seed --paper > my.yaml"),
    "stop": ("raydistill stop dogo-1 t0007", "raydistill stop dogo-1", "raydistill stop dogo-1 --now"),
    "add": ("raydistill add dogo-1 lambda_kd=100 lr=0.003",),
    "experiments": ("raydistill experiments --scale cpu", "raydistill experiments simreg/head-depth"),
    "data": ("raydistill data photos",),
    "train": ("raydistill train dogo-1 --out winner", "raydistill train dogo-1/t0003 --threads 2 --device cpu"),
    "report": ("raydistill report dogo-1",),
    "leaderboard": ("raydistill leaderboard --tracking-uri sqlite:///mlflow.db",),
    "evaluate": (
        "raydistill evaluate dogo-1 photos --labels-per-class 1,5,20",
        "raydistill evaluate timm:resnet18 photos --protocol dogo",
        "raydistill evaluate dogo-1 --task tsne --task noise",
    ),
    "export": ("raydistill export dogo-1 --format timm",),
    "embed": ("raydistill embed dogo-1 photos --out embeddings.parquet",),
}


def _examples(command: str) -> str | None:
    """The examples of a command as the end of its help; `\\b` keeps click from joining the lines."""
    if command not in EXAMPLES:
        return None
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the hyperparameters that make self-supervised distillation work on your images.",
)
for part in (
    sweep,
    space,
    stop,
    add,
    experiments,
    data,
    train,
    report,
    leaderboard,
    evaluate,
    export,
    embed,
    track,
    artifacts,
    doctor,
):
    name = part.__name__.rpartition(".")[2]
    app.command(name, epilog=_examples(name))(until_unread(part.command))


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

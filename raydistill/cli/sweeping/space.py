"""`raydistill space`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from raydistill.config import ConfigError, options_class, read_yaml
from raydistill.options import METHODS
from raydistill.records.locations import SHIPPED
from raydistill.sweep.search.space import OF_PAPER, default_space, paper_space
from raydistill.table import Table


def methods(incomplete: str) -> list[str]:
    """The methods whose name begins so, for the completion of the shell."""
    return [name for name in METHODS if name.startswith(incomplete)]


def command(
    method: Annotated[
        str | None,
        typer.Argument(metavar="[METHOD]", help="whose space to print [list all]", autocompletion=methods),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="the space with every axis of the method's paper")] = False,
) -> None:
    """Print a search space that ships with the package, as a file to edit; without METHOD, list all."""
    if method is None:
        typer.echo(_listed(f"*{OF_PAPER}.yaml" if paper else "*.yaml"))
        typer.echo("\none as a file: raydistill space METHOD > my.yaml; with every axis of its paper: --paper")
        return
    options_class(method)
    file = paper_space(method, "--paper") if paper else default_space(method)
    typer.echo(file.read_bytes(), nl=False)


def _listed(pattern: str) -> str:
    """A table of the spaces whose file is called so, those of a method one after the other."""
    rows = []
    for file in sorted(SHIPPED.glob(pattern), key=lambda file: (file.stem.removesuffix(OF_PAPER), file.stem)):
        space = read_yaml(file)
        method = file.stem.removesuffix(OF_PAPER)
        called = method if method == file.stem else f"{method} --paper"
        rows.append([called, str(len(space["parameters"])), str(space["run_cap"]), _about(file)])
    if not rows:
        raise ConfigError(f"there is no search space in {SHIPPED}; install raydistill again")
    return Table(["space", "parameters", "trials", "about"], rows).markdown()


def _about(file: Path) -> str:
    """The first sentence of the comment that a file begins with."""
    comment = re.match(r"(?:#.*\n)*", file.read_text(encoding="utf-8"))
    words = " ".join((comment.group() if comment else "").replace("#", " ").split())
    sentence = re.split(r"\.(?: |$)", words, maxsplit=1)[0]
    return sentence.removesuffix(": --search-space paper")

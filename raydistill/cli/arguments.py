"""Meaning of flags: places, numbers and names as typed, and how paths are shown again."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, ParamSpec

import typer

from raydistill.config import ConfigError
from raydistill.records.locations import expanded
from raydistill.redaction import redact
from raydistill.storage import Remote, StoragePath, is_remote

P = ParamSpec("P")
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="fix a setting, e.g. train.lr=0.001; repeatable"),
]
Kind = Annotated[
    str | None,
    typer.Option(help="of images: photographs, characters, aerial, microscopy, grey, auto [the preset's]"),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1 [cuda if there is one]")]


def target(given: str, *, overwrite: bool) -> Path:
    """The file that `--out` names. Raises: ConfigError where it cannot be written, or is there already."""
    found = expanded("--out", given).absolute()
    if found.is_dir():
        raise ConfigError(f"--out {given}: is a folder; give a file")
    if is_remote(given):
        raise ConfigError(f"--out {given}: give a file of this machine")
    if found.exists() and not overwrite:
        raise ConfigError(f"--out {given}: is there already; choose another file, or add --overwrite")
    return found


def shown(path: StoragePath) -> str:
    if isinstance(path, Remote):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def meanwhile(text: str) -> None:
    """Say to a person at a terminal what takes the next seconds."""
    if sys.stdout.isatty():
        typer.echo(f"{text} ...")


def typed() -> str:
    """The command line, without passwords."""
    program = Path(sys.argv[0]).name
    words = [*(["python"] if program.endswith(".py") else []), program, *sys.argv[1:]]
    return shlex.join(map(redact, words))


def fail(message: object, code: int) -> NoReturn:
    typer.echo(f"error: {redact(str(message))}", err=True)
    sys.exit(code)


def unread(then: str = "") -> NoReturn:
    """Exit as a program whose output nobody reads any more, as in `| head`; `then` says what can be done."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains of it again at its end
    fail(f"nobody reads what is printed{then}", 128 + signal.SIGPIPE)


def until_unread(command: Callable[P, None]) -> Callable[P, None]:
    """A command that says so when nobody reads its output any more; Typer would exit with 1 and without a word."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            unread()

    return run

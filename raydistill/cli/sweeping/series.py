"""Several experiments, one after the other, in one cluster: `--experiment all`, or `--experiment 'seed/*'`."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import typer

from raydistill.cli.arguments import fail
from raydistill.config import ConfigError
from raydistill.errors import RaydistillError
from raydistill.experiments.catalogue import experiment_names
from raydistill.redaction import redact
from raydistill.sweep.arms.finished import is_whole
from raydistill.sweep.options import has_begun
from raydistill.sweep.settings import SweepSettings
from raydistill.table import Table

ALL = "all"
Prepare = Callable[..., SweepSettings]


def is_series(experiment: str | None) -> bool:
    """Return whether `--experiment` names several experiments."""
    return experiment is not None and (experiment == ALL or "*" in experiment)


def chosen(pattern: str) -> list[str]:
    """The experiments that a pattern means. Raises: ConfigError if there are none."""
    names = [name for name in experiment_names() if pattern == ALL or fnmatchcase(name, pattern)]
    if not names:
        raise ConfigError(f"--experiment {pattern!r}: no experiment is called so; `raydistill experiments` lists them")
    return names


def run_series(names: list[str], scale: str, prepare: Callable[[str], Prepare], options: dict[str, Any]) -> None:
    """Run experiments one after the other, go on after one that fails, and print what became of each.

    Each is kept under its name and scale, such as `seed-queue-cpu`. One that is finished is left alone, one that was
    interrupted goes on, so the same command may be given again.

    Args:
        names: of the experiments.
        scale: of all.
        prepare: makes the preparation of one.
        options: of all.
    """
    from raydistill.sweep.cluster import connected_cluster
    from raydistill.sweep.run import run_sweep

    if options.get("name"):
        raise ConfigError(f"--name {options['name']}: several experiments have names of their own; leave it out")
    rows, failed = [], 0
    with connected_cluster():
        for number, name in enumerate(names, start=1):
            sweep = f"{name.replace('/', '-')}-{scale}"
            begun, started = has_begun(options.get("storage"), sweep), time.monotonic()
            typer.echo(f"\n{name} ({number} of {len(names)})")
            try:
                plan = prepare(name)(**{**options, "name": sweep}, resume=begun)
                if is_whole(plan):
                    rows.append([name, "done before", ""])
                    typer.echo(f"{sweep} is finished")
                    continue
                result = run_sweep(plan, resume=begun)
                typer.echo(f"\n{result.table}")
                whole = "done" if is_whole(plan) else "done, but some scores are missing; the same command tries again"
                rows.append([name, whole, f"{time.monotonic() - started:.0f} s"])
            except RaydistillError as error:
                failed += 1
                typer.echo(f"error: {redact(str(error))}", err=True)
                rows.append([name, f"failed: {redact(str(error))}", f"{time.monotonic() - started:.0f} s"])
    typer.echo(f"\n{Table(['experiment', 'outcome', 'took'], rows).markdown()}")
    if failed:
        fail(f"{failed} of {len(names)} experiments failed; the same command tries them again", 1)

"""`raydistill leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raydistill.cli.arguments import shown, target
from raydistill.cli.runs import Tracking
from raydistill.config import ConfigError, nearest
from raydistill.records.locations import tracking
from raydistill.redaction import redact
from raydistill.tracking.client import EXPERIMENT


def command(
    metric: Annotated[str, typer.Option(help="by which rows are ranked: test_probe or test_knn")] = "test_probe",
    method: Annotated[list[str] | None, typer.Option(help="show rows of this method alone; repeatable")] = None,
    tracking_uri: Tracking = None,
    experiment: Annotated[str, typer.Option(help="of MLflow")] = EXPERIMENT,
    out: Annotated[str | None, typer.Option(help="also a file: .md, .csv or .json")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file that --out names")] = False,
) -> None:
    """Compare the methods of all sweeps, where data, student, budget and protocol are equal."""
    from raydistill.report.standings.compare import METRICS, standings
    from raydistill.report.standings.read import read
    from raydistill.report.standings.render import FORMS, Leaderboard, text

    if metric not in METRICS:
        raise ConfigError(f"--metric {metric!r} is unknown{nearest(metric, METRICS)}")
    path = None if out is None else target(out, overwrite=overwrite)
    if path is not None and path.suffix.lower() not in FORMS:
        raise ConfigError(f"--out {out}: give a file that ends in {', '.join(FORMS)}")
    uri = tracking(tracking_uri)
    found = read(uri, experiment)
    if not found.sweeps:
        typer.echo(f"there are no sweeps in {redact(uri)}, so there is nothing to compare")
        return
    known = dict.fromkeys(each.method for each in found.contenders if not each.reference)
    for name in method or ():
        if known and name not in known:
            raise ConfigError(f"--method {name!r}: no finished sweep has it{nearest(name, known)}")
    ranked = standings(found.contenders, metric)
    board = Leaderboard(ranked, found.left_out, metric, frozenset(method) if method else None)
    typer.echo(text(board))
    if path is not None:
        _write(path, FORMS[path.suffix.lower()](board))
        typer.echo(f"\nwrote {shown(path)}")


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror}") from None

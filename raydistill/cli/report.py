"""`raydistill report`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raydistill.cli.arguments import shown, target
from raydistill.config import ConfigError, nearest
from raydistill.records.locations import tracking, working_folder
from raydistill.redaction import redact
from raydistill.table import Table
from raydistill.tracking.delivery_queue import one_line

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = {"html": "html", "md": "md", "latex": "tex"}


def command(
    sweep: Annotated[str | None, typer.Argument(help="its name, e.g. dogo-1 [none: list the sweeps]")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow [MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, md or latex")] = "html",
    out: Annotated[str | None, typer.Option(help="the file [runs/SWEEP/report.html, else SWEEP-report.html]")] = None,
    figures: Annotated[bool, typer.Option("--figures", help="with --format md: pictures beside the file")] = False,
    attach: Annotated[bool, typer.Option(help="html: also to the sweep's run in MLflow")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file that --out names")] = False,
) -> None:
    """Write what a sweep found as one HTML page, as Markdown, or as LaTeX tables."""
    if form not in ENDINGS:
        raise ConfigError(f"--format {form!r} is unknown{nearest(form, ENDINGS)}")
    if figures and form != "md":
        raise ConfigError(f"--figures: a report in {form} has no pictures beside it; give --format md")
    path = None if out is None else target(out, overwrite=overwrite)
    uri = tracking(tracking_uri)
    from raydistill.report import load, sweeps

    if sweep is None:
        typer.echo(listing(sweeps(uri)))
        return
    found = load(uri, sweep)
    from raydistill.report.render import write
    from raydistill.report.summary import summarize

    option = f" --tracking-uri {shlex.quote(redact(uri))}" if tracking_uri else ""
    path = path or _default(sweep, ENDINGS[form])
    try:
        write.write(summarize(found, option=option), form, path, pictures=figures)
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror}") from None
    typer.echo(f"wrote {shown(path.absolute())}")
    if attach and form == "html":
        try:
            write.attach(found, path)
        except Exception as error:
            typer.echo(f"not attached to the sweep's run in MLflow: {one_line(error)}", err=True)


def listing(found: pd.DataFrame) -> str:
    """The sweeps of a store as a table, newest first."""
    from raydistill.report.formatting import heading, score

    if found.empty:
        return "no sweeps"
    metrics = [name for name in ("val_knn", "val_instance", "test_knn") if f"winner_{name}" in found]
    header = ["sweep", "method", "outcome", "started (UTC)", *(f"winner's {heading(name)}" for name in metrics)]
    body = [
        [
            str(name),
            row["method"],
            row["outcome"],
            f"{row['started']:%Y-%m-%d %H:%M}",
            *(score(metric, row[f"winner_{metric}"]) for metric in metrics),
        ]
        for name, row in found.iterrows()
    ]
    return Table(header, body).markdown()


def _default(sweep: str, ending: str) -> Path:
    """Default file of a report: in the sweep's folder if that is on this machine, else here."""
    folder = working_folder() / "runs" / sweep
    return folder / f"report.{ending}" if folder.is_dir() else Path(f"{sweep}-report.{ending}")

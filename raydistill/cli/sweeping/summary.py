"""Summary at a sweep's end: the table, what it shows, and the next commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from raydistill.cli.arguments import shown, typed
from raydistill.config import EvalConfig
from raydistill.evaluation.protocols import knn_protocol
from raydistill.records.few_labels import NOTE as FEW_LABELS_NOTE
from raydistill.records.few_labels import few_label_table
from raydistill.records.journal import read_finals, scored_again
from raydistill.records.layout import JOURNAL_FILE, SWEEP_FILE, TRAJECTORIES_FILE
from raydistill.records.leaderboard import LeaderboardEntry, seeds_share
from raydistill.redaction import redact
from raydistill.storage import Remote
from raydistill.sweep.arms.finished import SweepResult
from raydistill.sweep.settings import SweepSettings


def conclude(plan: SweepSettings, result: SweepResult, *, artifacts: bool, tracking: bool) -> None:
    """Print the summary.

    Args:
        plan: the sweep.
        result: its result.
        artifacts, tracking: whether their places were typed, so that commands must name them too.
    """
    typer.echo(f"\n{result.table}\n")
    shared = seeds_share(plan.base, redrawn=plan.redraw_teachers)
    said = _shows(plan) if not plan.arms else ()
    path = plan.directory / JOURNAL_FILE
    again = scored_again(read_finals(path)) if path.exists() else ""
    for line in [*legend(result.rows, plan.base.eval, again=bool(again)), *filter(None, [shared]), *said]:
        typer.echo(line)
    folder, store = shlex.quote(shown(plan.directory)), shlex.quote(shown(plan.artifacts))
    where = f" --artifacts {store}" if artifacts or isinstance(plan.artifacts, Remote) else ""
    address = redact(plan.tracking_uri)
    option = f" --tracking-uri {shlex.quote(address)}" if tracking else ""
    server = f"{program('mlflow')} ui --backend-store-uri {shlex.quote(address)}"
    typer.echo("")
    typer.echo(f"see the report:          {program('raydistill')} report {plan.name}{option}")
    if (plan.directory / TRAJECTORIES_FILE).exists():
        typer.echo(f"see the trajectories:    {shown(plan.directory / TRAJECTORIES_FILE)}")
    if plan.arms:
        best = result.rows[0].runs[0]
        typer.echo(f"export an arm's encoder: {program('raydistill')} export {plan.name}/{best} --format timm")
    else:
        typer.echo(f"export the encoder:      {program('raydistill')} export {folder} --format timm")
        typer.echo(f"train the winner alone:  {program('raydistill')} train {folder}{where} --out winner")
    typer.echo(f"compare the trials:      {address if address.startswith('http') else server}")


def legend(rows: list[LeaderboardEntry], evaluation: EvalConfig, *, again: bool = False) -> Iterator[str]:
    """Explain the columns of the table.

    Args:
        rows: of the table.
        evaluation: how they were scored.
        again: whether test scores had been seen before the last trials, as a line below the table says.
    """
    there = {name for row in rows for score in row.scores for name in score}
    if "val_knn" in there:
        protocol = knn_protocol(evaluation)
        yield f"val_knn, test_knn: k-NN accuracy (%) {protocol.describe()}"
        for k in protocol.also:
            yield f"test_knn_{k}: the same with k = {k}"
    if "val_instance" in there:
        yield "val_instance, test_instance: how many crops find the other crop of their image among all (%)"
    if "val_rank" in there:
        yield "val_rank: how many dimensions the features use (effective rank); 0 to 1 is a collapse"
    if "test_probe" in there:
        yield "test_probe: accuracy (%) of a linear probe"
    if "val_mse" in there:
        yield "val_mse, test_mse: squared distance between normalised prediction and teacher on images not trained on"
    if few_label_table(rows).body:
        yield FEW_LABELS_NOTE
    yield "±: standard deviation over seeds" + ("" if again else "; test is scored once")


def how_to_go_on(plan: SweepSettings) -> str:
    """Say what to type after a sweep was interrupted; before it began there is nothing to resume."""
    if not (plan.directory / SWEEP_FILE).exists():
        return "nothing had begun; the same command starts it"
    return f"go on with: {how_to_resume(plan.name)}"


def how_to_resume(name: str) -> str:
    """The command that goes on with an interrupted sweep."""
    resumes = "--resume" in sys.argv or "--resume-or-start" in sys.argv
    words = [*([] if "--name" in sys.argv else ["--name", name]), *([] if resumes else ["--resume"])]
    return " ".join([typed(), *words])


def program(name: str) -> str:
    """Return a program as it can be typed here: by its name, or by its path beside this Python."""
    beside = Path(sys.executable).with_name(name)
    return shlex.quote(shown(beside)) if shutil.which(name) is None and beside.exists() else name


def _shows(plan: SweepSettings) -> Iterator[str]:
    """Say whether distillation helped, in a line; nothing where MLflow cannot be asked."""
    from raydistill.report import load
    from raydistill.report.conclusion import against_baseline

    try:
        found = against_baseline(load(plan.tracking_uri, plan.name))
    except Exception:
        return
    if found:
        yield ""
        yield found

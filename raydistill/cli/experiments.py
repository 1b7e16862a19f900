"""`raydistill experiments`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from raydistill.config import ConfigError
from raydistill.experiments.catalogue import Experiment, experiment_names, load_experiment
from raydistill.experiments.scales import ExperimentScale, load_scale, needed, scaled_anyway
from raydistill.experiments.table import describe_experiment, heading, published_table
from raydistill.records.leaderboard import short
from raydistill.table import Table


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="one of them, in full")] = None,
    scale: Annotated[str, typer.Option(help="at which to count: paper, small, cpu, smoke")] = "cpu",
    paper: Annotated[str | None, typer.Option(help="only those of this paper, such as simreg")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a list for programs")] = False,
) -> None:
    """List the published experiments, and how much each one trains."""
    chosen = load_scale(scale)
    if name is not None:
        typer.echo(_in_full(load_experiment(name), chosen))
        return
    names = [name for name in experiment_names() if paper in (None, name.partition("/")[0])]
    if not names:
        papers = ", ".join(dict.fromkeys(name.partition("/")[0] for name in experiment_names()))
        raise ConfigError(f"--paper {paper}: there is none of it; valid: {papers}")
    rows = [describe(load_experiment(name), chosen) for name in names]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    header = ["experiment", "of", "arms", "seeds", "runs", "epochs", "trained images", "needs"]
    body = [
        [_cell(row[key]) for key in ("id", "source", "arms", "seeds", "runs", "epochs", "images", "needs")]
        for row in rows
    ]
    typer.echo(Table(header, body).markdown())
    covered = {item for row in rows for item in row["items"]}
    ours = sum(not row["items"] for row in rows)
    typer.echo(f"\n{len(rows) - ours} experiments of the papers' {len(covered)} items, and {ours} of our own")
    typer.echo(f"scale {scale}: {chosen.about}")
    typer.echo("one in full: raydistill experiments NAME; its time: python sweep.py --experiment NAME --dry-run")


def describe(experiment: Experiment, scale: ExperimentScale) -> dict[str, Any]:
    """An experiment at a scale as plain values.

    Args:
        experiment: from the catalogue.
        scale: the sizes.

    Returns: `id`, `paper`, `item`, `title`, `source`, `items` of the papers, `command`, the numbers of `arms`, `seeds`,
        `runs` and `epochs` of the longest, `images` passes in millions, teachers included, where the scale limits the
        images, and what it `needs`.
    """
    ready = scaled_anyway(experiment, scale)
    runs = len(ready.arms) * (ready.seeds + max(ready.trials - 1, 0))
    epochs = [arm.config.train.epochs for arm in ready.arms]
    limit = ready.arms[0].config.data.limit if ready.arms else None
    passes = None
    if limit is not None:
        of_arms = sum(epochs) * (ready.seeds + max(ready.trials - 1, 0))
        passes = round((of_arms + sum(_teachers(ready.arms))) * limit / 1e6, 3)
    paper, _, item = experiment.name.partition("/")
    return {
        "id": experiment.name,
        "paper": paper,
        "item": item,
        "title": experiment.title,
        "source": experiment.source,
        "items": list(experiment.ids),
        "command": f"python sweep.py --experiment {experiment.name} --scale {scale.name}",
        "arms": len(ready.arms),
        "seeds": ready.seeds,
        "runs": runs,
        "epochs": max(epochs, default=0),
        "images": passes,
        "needs": needed(experiment, scale),
    }


def _in_full(experiment: Experiment, scale: ExperimentScale) -> str:
    """An experiment in words: its published numbers, its arms at a scale, claims and notes."""
    ready = scaled_anyway(experiment, scale)
    described = describe_experiment(ready)
    lines = [heading(described), "", published_table(described, []).markdown(), ""]
    lines += [f"- {arm.name}: {short(arm.settings)}" for arm in ready.arms]
    if experiment.claims:
        lines += ["", *(f"claim: {each.better} beats {each.worse} by {each.metric}" for each in experiment.claims)]
    if missing := needed(experiment, scale):
        lines += ["", f"has to be given: {', '.join(missing)}"]
    return "\n".join([*lines, *(["", experiment.notes] if experiment.notes else [])])


def _teachers(arms: Any) -> list[int]:
    """Epochs of the teachers that the arms need, each once."""
    found = {}
    for arm in arms:
        config = arm.config
        if config.method.teacher_output() is not None and not config.teacher.sources:
            teacher = config.teacher
            for index in range(teacher.count):
                key = (teacher.method, teacher.backbone, teacher.preset, config.teacher_epochs, teacher.seed + index)
                found[key] = config.teacher_epochs
    return list(found.values())


def _cell(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, float):
        return f"{value:.1f} M" if value >= 0.1 else f"{1000 * value:.0f} k"
    return ", ".join(value) if isinstance(value, list) else str(value)

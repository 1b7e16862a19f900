"""The table of an experiment: published numbers beside ours, and whether the paper's claims hold here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from raydistill.experiments.scales import ScaledExperiment
from raydistill.experiments.teachers import labels_of_teachers
from raydistill.records.intervals import difference, estimate, visible
from raydistill.records.leaderboard import LeaderboardEntry, is_reference, unit_of
from raydistill.redaction import redact
from raydistill.table import Table

ERRORS = ("mse",)  # less is better
OF_SEED = re.compile(r"final-.*-seed(\d+)(?:-\d+)?")
SHOWN = 4  # arms of a teacher in a note
Verdict = Literal["holds", "does not hold", "undecided", "not measured"]


@dataclass(frozen=True)
class ClaimResult:
    """A claim of the paper beside our seeds.

    `mean`, `low` and `high` are those of the better arm minus the worse one, so that above 0 the claim is right, in
    points or, of errors, as they are; None where they are not known. `seeds` is the number of pairs, and `visible` the
    smallest true difference that so many pairs with such a spread show in four of five cases.
    """

    better: str
    worse: str
    metric: str
    verdict: Verdict
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    visible: float | None = None


def describe_experiment(ready: ScaledExperiment) -> dict[str, Any]:
    """Everything that the table of an experiment needs, as plain values; a sweep keeps it beside its results."""
    experiment, arm = ready.experiment, ready.arms[0]
    scores = arm.config.eval
    return {
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "ids": list(experiment.ids),
        "scale": ready.scale.name,
        "about": ready.scale.about,
        "images": arm.config.data.source,
        "absent": [each.name for each in experiment.arms if ready.scale.name not in each.scales],
        "arms": [each.name for each in ready.arms],
        "metrics": list(experiment.metrics),
        "published": {name: dict(row) for name, row in experiment.published.items()},
        "claims": [asdict(claim) for claim in experiment.claims],
        "seeds": ready.seeds,
        "equal": _equal(ready),
        "protocol": {"k-NN": scores.knn, "probe": scores.probe, "tasks": list(scores.tasks), "tune": scores.tune},
        "teacher_labels": labels_of_teachers(experiment, ready.scale.name, {e.name: e.config for e in ready.arms}),
        "notes": experiment.notes,
    }


def _equal(ready: ScaledExperiment) -> str:
    """Say what the arms have in common."""
    epochs = {arm.config.train.epochs for arm in ready.arms}
    return "images, epochs and scores" if len(epochs) == 1 else "images and scores, and not as many epochs"


def render_experiment(described: Mapping[str, Any], rows: Sequence[LeaderboardEntry]) -> str:
    """The table of an experiment as Markdown, its claims, and what it rests on.

    Args:
        described: as `describe_experiment` gives it.
        rows: of the sweep's leaderboard.
    """
    lines = [heading(described), ""]
    lines.append(published_table(described, rows).markdown())
    if results := claim_sentences(described, rows):
        lines += ["", "Claims, paired by seed:", *(f"- {each}" for each in results)]
    lines += ["", protocol_note(described)]
    if described["notes"]:
        lines += ["", described["notes"]]
    return "\n".join(lines)


def heading(described: Mapping[str, Any]) -> str:
    """A line on an experiment and its scale; `described` is as `describe_experiment` gives it."""
    own = described["name"].endswith((".yaml", ".yml"))
    name = "" if own else f"{described['name']}: "
    scale = f"scale {described['scale']}" + (f" ({described['about']})" if described.get("about") else "")
    images = f", on {redact(described['images'])}" if described.get("images") else ""
    return f"{name}{described['title']} ({described['source']}), {scale}{images}"


def claim_sentences(described: Mapping[str, Any], rows: Sequence[LeaderboardEntry]) -> list[str]:
    """Say of each claim whether it holds, and by how much.

    Args:
        described: as `describe_experiment` gives it.
        rows: of the sweep's leaderboard.
    """
    return [_sentence(each) for each in judge(described, rows)]


def published_table(described: Mapping[str, Any], rows: Sequence[LeaderboardEntry]) -> Table:
    """Published numbers beside ours, where there are any, a line for each arm and each reference.

    Args:
        described: as `describe_experiment` gives it.
        rows: of the sweep's leaderboard.
    """
    by_name = {row.name: row for row in rows}
    others = [*(row.name for row in rows if is_reference(row.name)), *described["published"]]
    shown = list(dict.fromkeys([*described["arms"], *others]))
    metrics = [metric for metric in described["metrics"] if _known(metric, described, by_name)]
    compared = {metric for metric in metrics if any(metric in row for row in described["published"].values())}
    header = ["arm", "seeds"]
    for metric in metrics:
        header += [f"{metric}: published", "here"] if metric in compared else [metric]
    body = []
    for name in shown:
        published, row = described["published"].get(name, {}), by_name.get(name)
        cells = [name, str(len(row.scores)) if row else "0"]
        for metric in metrics:
            cells += [_published(published.get(metric), metric)] if metric in compared else []
            cells.append(_ours(row, metric))
        body.append(cells)
    return Table(header, body)


def judge(described: Mapping[str, Any], rows: Sequence[LeaderboardEntry]) -> list[ClaimResult]:
    """Compare the arms of each claim, paired by seed, by Student's t.

    Args:
        described: as `describe_experiment` gives it.
        rows: of the sweep's leaderboard, each with its scores in the order of the seeds.

    Returns: a result for each claim; `not measured` where an arm or its metric is missing.
    """
    by_name = {row.name: row for row in rows}
    results = []
    for claim in described["claims"]:
        better, worse, metric = claim["better"], claim["worse"], claim["metric"]
        first, second = _seeds(by_name.get(better), metric), _seeds(by_name.get(worse), claim.get("than") or metric)
        if not first or not second:
            results.append(ClaimResult(better, worse, metric, "not measured"))
            continue
        if _without_seeds(worse):
            second = dict.fromkeys(first, next(iter(second.values())))
        if _without_seeds(better):
            first = dict.fromkeys(second, next(iter(first.values())))
        sign = -1 if is_error(metric) else 1
        found = difference(first, second)
        low, high = found.low, found.high
        if low is not None and high is not None and sign < 0:
            low, high = -high, -low
        verdict: Verdict = "undecided"
        if low is not None and low > 0:
            verdict = "holds"
        elif high is not None and high < 0:
            verdict = "does not hold"
        shown = visible(first[seed] - second[seed] for seed in first if seed in second) if found.paired else None
        results.append(ClaimResult(better, worse, metric, verdict, sign * found.mean, low, high, found.seeds, shown))
    return results


def _without_seeds(name: str) -> bool:
    """Return whether a row is a reference that is the same for all seeds: raw pixels, or a teacher."""
    return is_reference(name) and not name.startswith("untrained")


def is_error(metric: str) -> bool:
    """Return whether less of a metric is better."""
    return any(part in metric for part in ERRORS)


def _seeds(row: LeaderboardEntry | None, metric: str) -> dict[Any, float]:
    """The values of a metric by seed; a run that a search found is the first seed, and one that failed is missing."""
    if row is None:
        return {}
    seeds: list[int] = list(range(len(row.scores)))
    if len(row.runs) == len(row.scores):
        named = [OF_SEED.fullmatch(run) for run in row.runs]
        seeds = [int(match[1]) if match else 0 for match in named]
    return {seed: each[metric] for seed, each in zip(seeds, row.scores, strict=True) if metric in each}


def _known(metric: str, described: Mapping[str, Any], rows: Mapping[str, LeaderboardEntry]) -> bool:
    """Return whether anybody has a number for a metric."""
    published = any(metric in row for row in described["published"].values())
    return published or any(row.mean(metric) for row in rows.values())


def _published(value: float | None, metric: str) -> str:
    return "–" if value is None else f"{value:.4f}" if unit_of(metric)[0] == 1 else f"{value:g}"


def _ours(row: LeaderboardEntry | None, metric: str) -> str:
    values = [] if row is None else [each[metric] for each in row.scores if metric in each]
    if not values:
        return "–"
    factor, digits = unit_of(metric)
    found = estimate(factor * value for value in values)
    return f"{found.mean:.{digits}f}" + ("" if found.std is None else f" ± {found.std:.{digits}f}")


def _sentence(result: ClaimResult) -> str:
    said = f"{result.better} beats {result.worse} by {result.metric}: {result.verdict}"
    if result.mean is None:
        return said
    factor, digits = unit_of(result.metric)
    text = f"{said} ({_signed(factor * result.mean, digits)}"
    if result.low is None or result.high is None:
        return f"{text}, one seed)"
    low, high = (_signed(factor * end, digits) for end in (result.low, result.high))
    text = f"{text}, 95 % interval {low} to {high}, {result.seeds} seeds"
    if result.verdict == "undecided" and result.visible is not None:
        return f"{text}; {factor * result.visible:.{digits}f} would have shown)"
    return f"{text})"


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def protocol_note(described: Mapping[str, Any]) -> str:
    """Say by what protocol the numbers were made; `described` is as `describe_experiment` gives it."""
    protocol = described["protocol"]
    tasks = f", tasks {', '.join(protocol['tasks'])}" if protocol["tasks"] else ""
    equal = described.get("equal", "images and scores")
    absent = f" Not at this scale: {', '.join(described['absent'])}." if described.get("absent") else ""
    published = " Published: as printed, at the paper's scale. Here:" if described["published"] else " Numbers:"
    scored = described.get("scored_again") or "test scored once"
    return (
        f"Protocol: k-NN {protocol['k-NN']}, probe {protocol['probe']}{tasks}.{published} "
        f"mean ± standard deviation over seeds, {scored}; arms have equal {equal}. "
        f"A claim holds if the 95 % interval of its difference is above 0.{_whose(described)}{absent}"
    )


def _whose(described: Mapping[str, Any]) -> str:
    """Say of which arm the untrained student is, and which arms each of several teachers taught."""
    of, teachers = described.get("references_of"), described.get("teachers_of") or {}
    said = f" The untrained student is that of {of}." if of and len(described["arms"]) > 1 else ""
    if len(teachers) > 1:
        said += f" Teachers: {'; '.join(f'{name} of {_some(arms)}' for name, arms in teachers.items())}."
    return said


def _some(arms: Sequence[str]) -> str:
    """The names of arms; of many the first."""
    return ", ".join(arms[:SHOWN]) + (f" and {len(arms) - SHOWN} more" if len(arms) > SHOWN else "")

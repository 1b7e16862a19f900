"""The table at the end: best configurations, validation and test, the baseline beside them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from raydistill.config import Config
from raydistill.records.journal import TrialRecord
from raydistill.table import Table


@dataclass(frozen=True)
class LeaderboardEntry:
    """One configuration. `scores` has one mapping a seed; test scores only where it was selected.

    `runs`: keys of the runs that have these scores; empty for references, and in sweeps of version 0.1.
    """

    name: str
    settings: dict[str, Any]
    epochs: int
    scores: list[dict[str, float]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def mean(self, metric: str) -> tuple[float, float | None] | None:
        values = [score[metric] for score in self.scores if metric in score]
        return mean_std(values) if values else None


COLUMNS = (
    "val_knn",
    "val_instance",
    "val_rank",
    "val_mse",
    "loss",
    "student_parameters",
    "test_knn",
    *(f"test_knn_{k}" for k in (1, 10, 100, 200)),  # what `eval.knn` reports beside it
    "test_instance",
    "test_probe",
    "test_mse",
)
# How the rows of baselines end; version 0.1 wrote `-tuned` for the winner's settings.
SEARCHED = "-searched"
OWN_AUGMENTATION = "-own-augmentation"
BASELINES = (SEARCHED, "-same-settings", "-default", OWN_AUGMENTATION, "-tuned")
# What a result is judged by. The last names the frozen teachers, one row each.
REFERENCES = {"pixels": "no network", "untrained": "random weights", "teacher": "frozen"}
PLAIN = ("test_alignment", "test_uniformity", "test_mse", "val_mse")  # no accuracies, whatever encoder they end with
UNITS = {"loss": (1, 4), "val_mse": (1, 4), "test_mse": (1, 4), "student_parameters": (1e-6, 3), "val_rank": (1, 1)}


def baselines(rows: list[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """The rows of baselines, the best one on validation first, as the table has them."""
    return [row for row in rows if row.name.endswith(BASELINES)]


def is_reference(name: str) -> bool:
    """Return whether a row is that of raw pixels, of the untrained student, or of a teacher."""
    return name.partition("-")[0] in REFERENCES


def references(rows: list[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """Raw pixels, the untrained student and the teachers, which nothing of the sweep trained as a student."""
    return [row for row in rows if is_reference(row.name)]


def seeds_share(config: Config, *, redrawn: bool) -> str:
    """Say whether the seeds of a final share its teachers and its clusters; empty where it has neither.

    Args:
        config: of the winner, or the sweep's base.
        redrawn: whether every seed has its own (`--redraw-teachers`).
    """
    method, teacher, source = config.method, config.teacher, config.method.label_source()
    count = 0 if method.teacher_output() is None else len(teacher.sources) or teacher.count
    taught = [] if not count else ["teacher" if count == 1 else "teachers"]
    made = [] if source is None or source.kind == "true" else ["classes" if source.kind == "random" else "clusters"]
    if not taught and not made:
        return ""
    if redrawn:
        *parts, last = ["student", "order", *taught, *made]
        return f"seeds redraw {', '.join(parts)} and {last}"
    return f"seeds share the {' and the '.join([*taught, *made])}"


def render(rows: list[LeaderboardEntry], metrics: Sequence[str]) -> str:
    """A Markdown table; scores as mean ± standard deviation over the seeds, accuracies in percent.

    `metrics`: what the search went by.
    """
    return cells(rows, metrics).markdown()


def cells(rows: list[LeaderboardEntry], metrics: Sequence[str]) -> Table:
    """The table of `render`, cell by cell."""
    columns = scored(rows, metrics)
    header = ["configuration", "seeds", "epochs", *columns, "settings"]
    return Table(header, [line(row, columns) for row in rows])


def scored(rows: list[LeaderboardEntry], metrics: Sequence[str]) -> list[str]:
    """The columns of scores that a table of these rows has; `metrics`: what the search went by, which come first."""
    sizes = {found[0] for row in rows if (found := row.mean("student_parameters"))}
    hidden = {"loss"} | ({"student_parameters"} if len(sizes) < 2 else set())
    columns = [*metrics, *(column for column in COLUMNS if column not in {*hidden, *metrics})]
    return [column for column in columns if any(row.mean(column) for row in rows)]


def line(row: LeaderboardEntry, columns: list[str]) -> list[str]:
    """The cells of a row: configuration, seeds, epochs, its scores, settings."""
    scores = [cell(row, column) for column in columns]
    settings = short(row.settings)
    if is_reference(row.name) and not row.settings:
        settings = REFERENCES[row.name.partition("-")[0]]
    return [row.name, str(len(row.scores)), epochs(row), *scores, settings]


def epochs(row: LeaderboardEntry) -> str:
    """The epochs of a row; a dash where nothing was trained, or nobody knows how long."""
    return str(row.epochs) if row.epochs else "–"


def render_front(records: list[TrialRecord], objectives: Sequence[tuple[str, str]]) -> str:
    """The trials that no other beats in every objective: their validation scores, by the first one."""
    header = [
        "front",
        *(f"{name} ({'higher' if goal == 'maximize' else 'lower'})" for name, goal in objectives),
        "settings",
    ]
    body = [
        [record.key, *(shown(name, record.last(name) or 0.0) for name, _ in objectives), short(record.settings)]
        for record in records
    ]
    return Table(header, body).markdown()


def unit_of(metric: str) -> tuple[float, int]:
    """The factor by which a metric is shown, and its digits."""
    return UNITS.get(metric, (1, 4) if metric.startswith(PLAIN) else (100, 2))


def shown(metric: str, value: float) -> str:
    """Accuracies in percent, parameters in millions, ranks as they are."""
    factor, digits = unit_of(metric)
    return f"{value * factor:.{digits}f}"


def cell(row: LeaderboardEntry, metric: str) -> str:
    found = row.mean(metric)
    if found is None:
        return "–"
    mean, std = found
    text = shown(metric, mean)
    return text if (not std and metric == "student_parameters") or std is None else f"{text} ± {shown(metric, std)}"


def short(settings: dict[str, Any]) -> str:
    """Settings without their section, numbers to three digits."""
    parts = []
    for path, value in settings.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value).replace("'", "")
        parts.append(f"{path.rpartition('.')[2]}={text}")
    return " ".join(parts) or "defaults"


def plain(rows: list[LeaderboardEntry]) -> list[dict[str, Any]]:
    """Return the entries as JSON can hold them."""
    return [asdict(row) for row in rows]


def mean_std(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None

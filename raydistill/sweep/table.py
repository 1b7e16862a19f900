"""The table at the end: best configurations, validation and test, the baseline beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from raydistill.sweep.finalists import mean_std


@dataclass(frozen=True)
class Row:
    """One configuration. `scores` has one mapping a seed; test scores only where it was selected."""

    name: str
    settings: dict[str, Any]
    epochs: int
    scores: list[dict[str, float]] = field(default_factory=list)

    def mean(self, metric: str) -> tuple[float, float | None] | None:
        values = [score[metric] for score in self.scores if metric in score]
        return mean_std(values) if values else None


COLUMNS = ("val_knn", "val_instance", "loss", "test_knn", "test_probe")


def render(rows: list[Row], metric: str) -> str:
    """A Markdown table; scores as mean ± standard deviation over the seeds, accuracies in percent."""
    shown = [c for c in COLUMNS if any(row.mean(c) for row in rows) and (c != "loss" or metric == "loss")]
    header = ["configuration", "seeds", "epochs", *shown, "settings"]
    body = [
        [row.name, str(len(row.scores)), str(row.epochs), *(cell(row, column) for column in shown),
         short(row.settings)]
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip() + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, body)])


def cell(row: Row, metric: str) -> str:
    found = row.mean(metric)
    if found is None:
        return "–"
    mean, std = found
    factor, digits = (1, 4) if metric == "loss" else (100, 2)
    text = f"{mean * factor:.{digits}f}"
    return text if std is None else f"{text} ± {std * factor:.{digits}f}"


def short(settings: dict[str, Any]) -> str:
    """Settings without their section, numbers to three digits."""
    parts = []
    for path, value in settings.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value).replace("'", "")
        parts.append(f"{path.rpartition('.')[2]}={text}")
    return " ".join(parts) or "defaults"


def plain(rows: list[Row]) -> list[dict[str, Any]]:
    """For a JSON file."""
    return [asdict(row) for row in rows]

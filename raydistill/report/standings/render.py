"""Standings as text for a terminal and a Markdown file, as CSV, and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.records.leaderboard import short
from raydistill.report.formatting import MISSING, count, heading, score
from raydistill.report.standings.compare import FACTORS, METRICS, Conditions, Contender, Standing, Unknown, measure
from raydistill.table import Table, escape_markdown

NOTE = "in brackets: 95 % interval of the mean, by Student's t over the seeds"


@dataclass(frozen=True)
class Leaderboard:
    """Everything that is shown of a store.

    Args:
        standings: the largest one first.
        left_out: why other sweeps and rows are no part of it.
        metric: by which rows are ranked.
        methods: whose rows are shown; None: all.
    """

    standings: Sequence[Standing]
    left_out: Sequence[str]
    metric: str
    methods: frozenset[str] | None = None

    @property
    def comparable(self) -> list[Standing]:
        """Standings of several methods that have rows to show."""
        return [each for each in self.standings if each.comparable and self.rows(each)]

    @property
    def alone(self) -> list[Standing]:
        """Standings of one method that have rows to show."""
        return [each for each in self.standings if not each.comparable and self.rows(each)]

    @property
    def metrics(self) -> list[str]:
        """The metrics, that of the ranking first."""
        return sorted(METRICS, key=lambda name: name != self.metric)

    def rows(self, standing: Standing) -> list[Contender]:
        """The rows of a standing that are shown."""
        return [row for row in standing.rows if self.methods is None or row.method in self.methods]

    def apart(self, standing: Standing) -> list[str]:
        """Describe what keeps a standing from the largest comparable one; empty for that one."""
        other = measure(standing, self.standings)
        first = next(iter(self.standings), None)
        if other is None or (standing is first and standing.comparable):
            return []
        return standing.conditions.differences(other.conditions)


def text(board: Leaderboard, *, markdown: bool = False) -> str:
    """Render a table for each standing, and a line for all that is alone or left out.

    Args:
        board: what is shown.
        markdown: for a Markdown file, not for a terminal: nothing in it is taken for markup.
    """
    parts: list[list[str] | Table] = []
    for number, standing in enumerate(board.comparable, 1):
        why = _why(board, standing)
        parts += [[_title(number, standing)], _conditions(standing), _table(board, standing)]
        parts += [[f"apart: {why}"]] if why else []
    lines = [NOTE] if parts else ["no two methods have equal data, student, budget and protocol"]
    lines += [f"alone: {_alone(board, each)}" for each in board.alone]
    lines += [f"left out: {reason}" for reason in board.left_out]
    escape: Callable[[str], str] = escape_markdown if markdown else str
    end = "  \n" if markdown else "\n"  # two spaces end a line in Markdown
    return "\n\n".join(
        part.markdown(escape) if isinstance(part, Table) else end.join(map(escape, part)) for part in [*parts, lines]
    )


def table_csv(board: Leaderboard) -> str:
    """Render as CSV, a line for each row and reference of every standing; scores from 0 to 1."""
    written = io.StringIO()
    names = ["standing", "comparable", "kind", "method", "configuration", "sweeps", "seeds"]
    ends = [f"{metric}{end}" for metric in board.metrics for end in ("", "_low", "_high")]
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*names, *ends, "views", "settings", *FACTORS, "apart"])
    for number, standing in enumerate([*board.comparable, *board.alone], 1):
        told = [_parts(standing.conditions, factor) for factor in FACTORS]
        for row in [*board.rows(standing), *standing.references]:
            found = [row.estimate(metric) for metric in board.metrics]
            scores = [value for each in found for value in ((each.mean, each.low, each.high) if each else (None,) * 3)]
            kind = "reference" if row.reference else "method"
            sweeps, settings = " ".join(row.sweeps), json.dumps(dict(row.settings), default=str)
            about = [number, "yes" if standing.comparable else "no", kind, row.method, row.name, sweeps, row.seeds]
            writer.writerow([*about, *scores, row.views, settings, *told, "; ".join(board.apart(standing))])
    return written.getvalue()


def as_json(board: Leaderboard) -> str:
    """Render as JSON; scores from 0 to 1, unknown conditions as null."""
    found = [
        {
            "comparable": standing.comparable,
            "conditions": {
                factor: {
                    name: None if isinstance(value, Unknown) else value
                    for name, value in getattr(standing.conditions, factor)
                }
                for factor in FACTORS
            },
            "apart": board.apart(standing),
            "rows": [_plain(row) for row in board.rows(standing)],
            "references": [_plain(row) for row in standing.references],
        }
        for standing in [*board.comparable, *board.alone]
    ]
    return json.dumps({"metric": board.metric, "standings": found, "left_out": list(board.left_out)}, indent=1) + "\n"


# How `--out FILE` is written, by its ending.
FORMS: dict[str, Callable[[Leaderboard], str]] = {
    ".md": lambda board: text(board, markdown=True) + "\n",
    ".csv": table_csv,
    ".json": as_json,
}


def _title(number: int, standing: Standing) -> str:
    sources = ", ".join(sorted({row.source for row in standing.rows}))
    return f"### {number}. {sources}: {', '.join(sorted(standing.methods))}"


def _conditions(standing: Standing) -> list[str]:
    return [f"{factor}: {_parts(standing.conditions, factor)}" for factor in FACTORS]


def _parts(conditions: Conditions, factor: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in getattr(conditions, factor))


def _table(board: Leaderboard, standing: Standing) -> Table:
    protocol = dict(standing.conditions.protocol)
    by = {"test_probe": protocol.get("probe"), "test_knn": protocol.get("k-NN")}
    shown = [*board.rows(standing), *standing.references]
    differ = len({row.views for row in standing.rows}) > 1
    header = [
        *("method", "configuration", "sweeps", "seeds"),
        *(f"{heading(metric)}, {by[metric]}" for metric in board.metrics),
        *(["views"] if differ else []),
        "settings",
    ]
    body = [
        [
            "reference" if row.reference else row.method,
            row.name,
            ", ".join(row.sweeps),
            str(row.seeds),
            *(_cell(row, metric) for metric in board.metrics),
            *([row.views or MISSING] if differ else []),
            MISSING if row.reference and not row.settings else short(dict(row.settings)),
        ]
        for row in shown
    ]
    return Table(header, body)


def _cell(row: Contender, metric: str) -> str:
    found = row.estimate(metric)
    if found is None:
        return MISSING
    if found.low is None or found.high is None:
        return score(metric, found.mean) + ("" if row.reference else " (one seed)")
    return f"{score(metric, found.mean)} ({score(metric, found.low)} to {score(metric, found.high)})"


def _alone(board: Leaderboard, standing: Standing) -> str:
    rows = board.rows(standing)
    reached = [f"{metric} {_cell(rows[0], metric)}" for metric in board.metrics if rows[0].estimate(metric)]
    others = [count(len(rows) - 1, "more configuration")] if len(rows) > 1 else []
    about = ", ".join([_of(standing), *reached, *others])
    return f"{rows[0].name} ({about}): {_why(board, standing) or 'the store has nothing else'}"


def _why(board: Leaderboard, standing: Standing) -> str:
    """Say what keeps a standing from the one that it is held against, and which that is."""
    other, found = measure(standing, board.standings), board.apart(standing)
    if other is None or not found:
        return ""
    return f"{'; '.join(found)} (held against {', '.join(sorted(other.methods))} of {_of(other)})"


def _of(standing: Standing) -> str:
    return f"{'sweep' if len(standing.sweeps) == 1 else 'sweeps'} {', '.join(standing.sweeps)}"


def _plain(row: Contender) -> dict[str, Any]:
    found = {metric: row.estimate(metric) for metric in METRICS}
    return {
        "method": row.method,
        "configuration": row.name,
        "sweeps": list(row.sweeps),
        "seeds": row.seeds,
        "views": row.views,
        "settings": dict(row.settings),
        **{
            metric: {"mean": each.mean, "low": each.low, "high": each.high, "seeds": each.count}
            for metric, each in found.items()
            if each
        },
    }

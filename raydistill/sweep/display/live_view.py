"""Live view of a sweep in a terminal: what trains now, how far it is, what is best. The log passes above it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raydistill.sweep.display.progress import SweepStatus

PLAIN = "RAYDISTILL_PLAIN"  # set: plain lines in a terminal, too
SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 12  # scores
BAR, GAP = 16, 2  # columns
MOST_TRIALS = 12
REFRESHES_PER_SECOND = 4


def wanted() -> bool:
    """Return whether standard output is a terminal that shows a live view, and plain lines are not asked."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get(PLAIN):
        return False
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


class LiveView:
    """A few lines at the bottom of the terminal that change, below the log.

    Args:
        console: where it is shown; None: standard output.
        load: of the machine, in words.
    """

    def __init__(self, console: Console | None = None, load: Callable[[], str] | None = None) -> None:
        self._console, self._load = console or Console(highlight=False), load or _load
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def write(self, line: str) -> None:
        """Write a line of the log above the view."""
        self._console.print(line, markup=False, emoji=False, soft_wrap=True)

    def show(self, status: SweepStatus) -> None:
        """Replace the view."""
        self._live.update(render(status, self._load(), self._console.width))

    def close(self) -> None:
        """Take the view away; the log stays. A terminal that is gone needs nothing."""
        with suppress(OSError):
            self._live.stop()


def render(status: SweepStatus, load: str = "", width: int = 100) -> RenderableType:
    """Draw the view.

    Args:
        status: what to show.
        load: of the machine, in words.
        width: of the terminal, in columns.
    """
    minutes, seconds = divmod(int(status.seconds), 60)
    facts = [
        f"{minutes:02d}:{seconds:02d}",
        f"{status.ended} of {status.trials} trials",
        f"{status.trial_epochs} trial-epochs",
        status.left,
        *filter(None, [status.spent and f"spent {status.spent}", load]),
    ]
    head = Text.assemble((status.phase, "bold"), "  ", (" · ".join(facts), "dim"))
    parts: list[RenderableType] = ["", head]
    if status.best:
        name, score = status.best
        parts.append(Text.assemble("best ", (f"{status.metric} {score:.4f}", "bold green"), f" ({name})"))
    shown = status.running[:MOST_TRIALS]
    table = Table(box=None, padding=(0, GAP, 0, 0), show_header=False, pad_edge=False)
    rows = [
        (trial.key, f"{trial.done:.1f} of {trial.epochs}", _curve(trial.scores), _settings(trial.settings))
        for trial in shown
    ]
    # Rich would cut all columns alike; the settings alone are to be cut.
    taken = BAR + sum(max((len(row[column]) for row in rows), default=0) + GAP for column in range(3)) + GAP
    for style in ("cyan", "", "dim", "green", "dim"):
        table.add_column(style=style, no_wrap=True)
    for trial, (key, done, curve, settings) in zip(shown, rows, strict=True):
        bar = Bar(trial.epochs, 0, trial.done, width=BAR, color="cyan", bgcolor="grey23")
        table.add_row(key, bar, done, curve, Text(_cut(settings, width - taken)))
    if shown:
        parts.append(table)
    if more := len(status.running) - len(shown):
        parts.append(Text(f"and {more} more", "dim"))
    return Group(*parts)


def sparkline(scores: Sequence[float]) -> str:
    """Draw the last scores as bars between the least and the most of them."""
    seen = scores[-SPARKLINE:]
    if len(seen) < 2:
        return ""
    low, high = min(seen), max(seen)
    steps = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((score - low) * steps)] for score in seen)


def _curve(scores: Sequence[float]) -> str:
    return f"{sparkline(scores)} {scores[-1]:.4f}".strip() if scores else ""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def _load() -> str:
    return f"CPU {psutil.cpu_percent():.0f} %"


def _settings(settings: Mapping[str, Any]) -> str:
    """The settings by the ends of their paths; a run of the final has none but its own name."""
    return " ".join(
        f"{path.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else f"{path.rpartition('.')[2]}={value}"
        for path, value in settings.items()
        if "." in path
    )

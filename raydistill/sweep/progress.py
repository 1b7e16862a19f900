"""Progress that a person can follow: trials, epochs, best so far, time left; plain lines, fit for a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from raydistill.sweep.journal import Outcome


class Progress:
    """Args:
    trials: how many the sweep will run, finalists included; epochs: the budget of each.
    goal: maximize or minimize the metric.
    spent: what the sweep has cost, in words.
    """

    def __init__(
        self,
        *,
        trials: int,
        epochs: int,
        metric: str,
        goal: str,
        spent: Callable[[], str] = str,
        every: float = 10.0,
        write: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trials, self.epochs, self.metric = trials, epochs, metric
        self.every, self.write, self.clock, self.spent = every, write, clock, spent
        self._sign = 1 if goal == "maximize" else -1
        self._begun = self._said = clock()
        self._running: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._new_epochs = 0
        self._best: tuple[float, str] | None = None

    def note(self, text: str) -> None:
        """One line with the time since the start."""
        minutes, seconds = divmod(int(self.clock() - self._begun), 60)
        self.write(f"[{minutes:02d}:{seconds:02d}] {text}")

    def already(self, key: str, epochs: int, value: float | None) -> None:
        """A trial that ended before a resume."""
        self._ended[key] = epochs
        self._rank(key, value)

    def started(self, key: str) -> None:
        self._running.setdefault(key, 0)

    def result(self, key: str, epoch: int, value: float | None) -> None:
        self._running[key] = epoch
        self._new_epochs += 1
        self._rank(key, value)

    def ended(self, key: str, outcome: Outcome, message: str = "") -> None:
        self._ended[key] = self._running.pop(key, 0)
        text = f"{key} {outcome.replace('_', ' ')} after {self._ended[key]} of {self.epochs} epochs"
        self.note(f"{text}: {message}" if message else text)

    def tick(self, shares: Sequence[float] = ()) -> None:
        """Say where the sweep stands, every `every` seconds; `shares` of the running epochs are done."""
        if self.clock() - self._said >= self.every:
            self._said = self.clock()
            self.note(self.status(shares))

    def status(self, shares: Sequence[float] = ()) -> str:
        epochs = sum(self._ended.values()) + sum(self._running.values())
        parts = [f"{len(self._ended)} of {self.trials} trials", f"{len(self._running)} running",
                 f"{epochs} trial-epochs"]  # fmt: skip
        if any(shares):
            parts[-1] += f" (epoch {', '.join(f'{share:.0%}' for share in shares)} done)"
        if self._best:
            parts.append(f"best {self.metric} {self._best[0]:.4f} ({self._best[1]})")
        parts.append(self._time_left())
        if spent := self.spent():
            parts.append(f"spent {spent}")
        return ", ".join(parts)

    def _time_left(self) -> str:
        """From the pace so far; trials to come are taken to be as long as those that ended."""
        if not self._new_epochs:
            return "waiting for the first epoch"
        typical = sum(self._ended.values()) / len(self._ended) if self._ended else self.epochs
        running = sum(max(typical - epoch, 0) for epoch in self._running.values())
        waiting = max(self.trials - len(self._ended) - len(self._running), 0)
        seconds = (running + waiting * typical) * (self.clock() - self._begun) / self._new_epochs
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def _rank(self, key: str, value: float | None) -> None:
        if value is not None and (self._best is None or self._sign * (value - self._best[0]) > 0):
            self._best = (value, key)

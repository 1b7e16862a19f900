"""Progress that a person can follow: trials, epochs, best so far, time left; plain lines, fit for a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydistill.records.journal import Outcome, role_of

if TYPE_CHECKING:
    from raydistill.sweep.display.live_view import LiveView

PACE_SECONDS = 60.0
NONE: Mapping[str, float] = {}
PRIOR_TRIALS = 4  # so many trials of the average length are taken to have ended before the first
SEARCHED = ("search", "baseline")  # roles of trials that early stopping may end


@dataclass(frozen=True)
class RunningTrial:
    """A trial that trains now.

    Attributes:
        key: its name.
        settings: what tells it from the others, by path.
        done: epochs, the running one by its share.
        epochs: of the whole trial.
        scores: so far, in the order of the epochs.
    """

    key: str
    settings: Mapping[str, Any]
    done: float
    epochs: int
    scores: Sequence[float] = ()


@dataclass(frozen=True)
class SweepStatus:
    """State of a running sweep, as it is shown.

    Attributes:
        phase: what it does now, in words.
        seconds: since it began.
        ended, trials: how many trials have ended, and how many there are in this phase and before.
        trial_epochs: trained so far, of all trials.
        left: the time left, in words.
        spent: what it has cost, in words; may be empty.
        metric: which score is shown.
        best: name and score of the trial that would win now.
        running: trials that train now.
    """

    phase: str
    seconds: float
    ended: int
    trials: int
    trial_epochs: int
    left: str
    spent: str
    metric: str
    best: tuple[str, float] | None
    running: Sequence[RunningTrial]


class ProgressReporter:
    """Lines of progress of a running sweep.

    The best is the search's trial that would win now: the last score counts, and once a trial has been trained to
    its end only such trials do, as in the table.

    Args:
        trials: number of trials.
        epochs: of each trial.
        metric: which score.
        goal: maximize or minimize the metric.
        later: learners of the final to follow; `final` says how many it really has.
        later_searched: learners of the baselines' searches to follow.
        expected: epochs of a trial of a search on average, early stopping included; None: all.
        spent: gives what the sweep has cost, in words.
        seeds: that each trial of a search trains. Each counts as an epoch, as in the budget.
        every: seconds between two lines on where the sweep stands.
        write: takes a line.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        trials: int,
        epochs: int,
        metric: str,
        goal: str,
        later: int = 0,
        later_searched: int = 0,
        expected: float | None = None,
        spent: Callable[[], str] = str,
        seeds: int = 1,
        every: float = 10.0,
        write: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trials, self.epochs, self.metric = trials, epochs, metric
        self.later, self.later_searched, self.expected = later, later_searched, expected or epochs
        self.every, self.clock, self.spent, self.seeds = every, clock, spent, seeds
        self.write = write
        self.view: LiveView | None = None
        self.phase = "search"
        self._curves: dict[str, list[float]] = {}
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._sign = 1 if goal == "maximize" else -1
        self._begun = self._said = clock()
        self._running: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        self._new_epochs = 0
        self._paced = [(self._begun, 0.0)]  # times and the epochs until then, the done shares of running ones included
        self._scores: dict[str, float] = {}
        self._whole: set[str] = set()
        self._of_the_search: tuple[dict[str, float], set[str]] | None = None
        self._full = False

    def note(self, text: str) -> None:
        """One line with the time since the start."""
        minutes, seconds = divmod(int(self.clock() - self._begun), 60)
        self.write(f"[{minutes:02d}:{seconds:02d}] {text}")

    def at(self, phase: str) -> None:
        """Begin a phase, which a live view names; the lines say it by themselves."""
        self.phase = phase
        if self.view is not None:
            self.view.show(self.snapshot())

    def baseline(self, runs: int) -> None:
        """The search of a baseline follows, with so many runs of those that were to come; the best is its own."""
        self.trials, self.later_searched = self.trials + runs, max(self.later_searched - runs * self.seeds, 0)
        self._of_the_search = self._of_the_search or (self._scores, self._whole)
        self._scores, self._whole, self._full = {}, set(), False

    def final(self, runs: int, later: int = 0) -> None:
        """A search is over; so many runs follow, none of which is stopped early, and `later` ones after them."""
        self.trials, self.later, self._full = self.trials + runs, later, True
        if not later:
            self.later_searched = 0  # also where a baseline had nothing to search
        self._scores, self._whole = self._of_the_search or (self._scores, self._whole)

    def already(self, key: str, epochs: int, value: float | None) -> None:
        """Count a trial that ended before a resume.

        Args:
            key: the trial.
            epochs: that it has.
            value: its score, if it is one of the search's.
        """
        self._ended[key] = epochs
        self._score(key, value)
        if epochs >= self.epochs:
            self._whole.add(key)

    def started(
        self, key: str, epochs: int | None = None, settings: Mapping[str, Any] | None = None, done: int = 0
    ) -> None:
        """Report a trial's start.

        Args:
            key: the trial.
            epochs: of it, where they are not those of all trials.
            settings: what tells it from the others.
        done: epochs that it had before a resume.
        """
        self._running.setdefault(key, done)
        self._settings[key] = settings or {}
        if epochs not in (None, self.epochs):
            self._lengths[key] = epochs

    def result(self, key: str, epoch: int, value: float | None) -> None:
        """Report an epoch.

        Args:
            key: the trial.
            epoch: which one.
            value: its score if it is one of the search's trials, else None.
        """
        self._running[key] = epoch
        self._new_epochs += self._seeds_of(key)
        self._score(key, value)
        if value is not None:
            self._curves.setdefault(key, []).append(value)

    def ended(self, key: str, outcome: Outcome, message: str = "") -> None:
        """Report a trial's end.

        Args:
            key: the trial.
            outcome: how it ended.
            message: the cause.
        """
        self._ended[key] = self._running.pop(key, 0)
        length = pluralize(self._lengths.get(key, self.epochs), "epoch")
        text = f"{key} {outcome.replace('_', ' ')} after {self._ended[key]} of {length}"
        if outcome == "failed":
            self._scores.pop(key, None)
        elif key in self._scores:
            text += f", {self.metric} {self._scores[key]:.4f}"
        if outcome == "finished":
            self._whole.add(key)
        self.note(f"{text}: {message}" if message else text)

    def tick(self, shares: Mapping[str, float] = NONE) -> None:
        """Say now and then where the sweep stands; `shares`: what each trial has done of its running epoch."""
        self._pace(shares)
        if self.view is not None:
            self.view.show(self.snapshot(shares))
        elif self.clock() - self._said >= self.every:
            self._said = self.clock()
            self.note(self.status(shares))

    def snapshot(self, shares: Mapping[str, float] = NONE) -> SweepStatus:
        """Return where the sweep stands, for a live view; `shares` as in `tick`."""
        best = self._best()
        running = [
            RunningTrial(
                key,
                self._settings.get(key, {}),
                min(epoch + shares.get(key, 0.0), self._lengths.get(key, self.epochs)),
                self._lengths.get(key, self.epochs),
                self._curves.get(key, ()),
            )
            for key, epoch in self._running.items()
        ]
        return SweepStatus(
            self.phase,
            self.clock() - self._begun,
            len(self._ended),
            self.trials,
            self._trained(),
            self._time_left(shares),
            self.spent(),
            self.metric,
            (best, self._scores[best]) if best else None,
            running,
        )

    def watch(self, view: LiveView) -> None:
        """Show where the sweep stands in a live view from now on."""
        self.view, self.write = view, view.write

    def close(self) -> None:
        """Take the live view away, if there is one."""
        if self.view is not None:
            self.view.close()
            self.view, self.write = None, print

    def _trained(self) -> int:
        return sum(epoch * self._seeds_of(key) for key, epoch in (*self._ended.items(), *self._running.items()))

    def status(self, shares: Mapping[str, float] = NONE) -> str:
        parts = [
            f"{len(self._ended)} of {self.trials} trials",
            f"{len(self._running)} running",
            f"{self._trained()} trial-epochs",
        ]
        if any(shares.values()):
            of_packs = dict.fromkeys(f"{share:.0%}" for share in shares.values())
            parts[-1] += f" (epoch {', '.join(of_packs)} done)"
        if best := self._best():
            parts.append(f"best {self.metric} {self._scores[best]:.4f} ({best})")
        parts.append(self._time_left(shares))
        if spent := self.spent():
            parts.append(f"spent {spent}")
        return ", ".join(parts)

    def _time_left(self, shares: Mapping[str, float]) -> str:
        """Estimate the time left by the speed of the last while; methods and packs differ in theirs.

        A trial of a search is taken to be as long as those that ended, and, before many have, as early stopping makes
        them on average.
        """
        if not self._new_epochs:
            return "waiting for the first epoch"
        pace = self._pace(shares)
        ended = [epochs for key, epochs in self._ended.items() if role_of(key) in SEARCHED]
        typical = (PRIOR_TRIALS * self.expected + sum(ended)) / (PRIOR_TRIALS + len(ended))
        running = sum(
            max(self._lengths.get(key, self._length(key, typical)) - epoch - shares.get(key, 0.0), 0)
            * self._seeds_of(key)
            for key, epoch in self._running.items()
        )
        waiting = max(self.trials - len(self._ended) - len(self._running), 0)
        each = self.epochs if self._full else typical * self.seeds
        epochs = running + waiting * each + self.later * self.epochs + self.later_searched * typical
        seconds = epochs * pace
        if not seconds:
            return "nearly done"
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def _length(self, key: str, typical: float) -> float:
        """Epochs to expect of a running trial: of one that early stopping has let go on, all."""
        searched = role_of(key) in SEARCHED and not self._full
        return typical if searched and self._running[key] < typical else self.epochs

    def _pace(self, shares: Mapping[str, float]) -> float:
        """Note how much has been trained by now; return the seconds of an epoch, by the last while with progress.

        The start, before the first epoch, is no part of it. What a lost worker repeats is no progress.
        """
        partly = sum(share * self._seeds_of(key) for key, share in shares.items() if key in self._running)
        done = max(self._new_epochs + partly, self._paced[-1][1])
        if not self._new_epochs and not self._paced[-1][1]:
            self._paced = [(self.clock(), done)]
            return 0.0
        self._paced.append((self.clock(), done))
        while len(self._paced) > 2 and self.clock() - self._paced[1][0] > PACE_SECONDS and done > self._paced[1][1]:
            del self._paced[0]
        began, before = self._paced[0]
        return (self.clock() - began) / (done - before) if done > before else 0.0

    def _seeds_of(self, key: str) -> int:
        return self.seeds if role_of(key) in SEARCHED else 1

    def _score(self, key: str, value: float | None) -> None:
        if value is not None:
            self._scores[key] = value

    def _best(self) -> str | None:
        """The trial that would win now."""
        pluralize = [key for key in self._scores if key in self._whole] or list(self._scores)
        return max(pluralize, key=lambda key: self._sign * self._scores[key], default=None)


def pluralize(number: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{number} {noun}{'s' * (number != 1)}"

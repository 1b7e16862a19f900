"""Interface of a logger beside MLflow: what happens to a sweep and to its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SWEEP = ""  # the key of the sweep itself, where a trial's would stand


@dataclass(frozen=True)
class TrialStart:
    """Begin of a trial or of the sweep, or of its resume: `params` are its settings by dotted path."""

    key: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    when: int


@dataclass(frozen=True)
class TrialMetrics:
    """Metrics of an epoch, `step`."""

    key: str
    step: int
    metrics: Mapping[str, float]
    when: int


@dataclass(frozen=True)
class TrialScores:
    """Final scores that no epoch had, of a trial that has ended; `step` is the epoch of its checkpoint."""

    key: str
    step: int
    metrics: Mapping[str, float]
    when: int


@dataclass(frozen=True)
class FinalTable:
    """Table at the end of the sweep, its cells as they are shown."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class TrialEnd:
    """End of a trial, or of the sweep, which comes last.

    `outcome` is finished, stopped_early, failed or interrupted. An interrupted trial may go on in a resume.
    """

    key: str
    outcome: str
    message: str
    when: int


LoggerEvent = TrialStart | TrialMetrics | TrialScores | FinalTable | TrialEnd


class ExperimentLogger(Protocol):
    """Receives a sweep's events, one after the other, in one thread.

    A sweep that is resumed sends its events from the beginning, so a logger leaves out what it has. Texts are redacted
    before they arrive, numbers are finite, and moments (`when`) are in milliseconds since 1970.
    """

    def receive(self, event: LoggerEvent) -> None:
        """Take an event; an exception ends the use of the logger."""

    def abandon(self) -> None:
        """Let go of everything at once, from any thread, so that nothing holds up the end of the process."""

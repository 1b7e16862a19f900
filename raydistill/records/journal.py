"""The sweep's own record: what was tried and what came of it, one JSON line an event, synced to disk.

Resuming reads this and nothing else, so a driver killed at any moment loses no finished trial.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from raydistill.config import DEFAULT_OFFSETS
from raydistill.redaction import redact
from raydistill.storage import Remote, StoragePath
from raydistill.training.messages import seed_metric
from raydistill.trial_spec import TrialSpec

PART_BYTES = 2**16
FINAL = "final"  # the event of a final
Offsets = tuple[tuple[int, int], ...]
Outcome = Literal["finished", "stopped_early", "failed"]


@dataclass(frozen=True)
class WeightCopy:
    """A population's trial went on from another's weights of this epoch; `changes` from its own settings before."""

    epoch: int
    donor: str
    changes: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        changed = ", ".join(f"{path} {_short(old)} -> {_short(new)}" for path, (old, new) in self.changes.items())
        return f"copied {self.donor} at epoch {self.epoch}" + (f" with {changed}" if changed else "")


@dataclass
class TrialRecord:
    """One trial: the settings that its search chose, its results by epoch, its end.

    `config` is the configuration as it was written down, for those who show it: they read journals of any version.
    `keys` are those of its teachers and labels (`TrialSpec.keys_to_dict`), empty where the journal has none.
    `offsets`: which of the stream's epochs it saw (`train.offsets`). `added`: a user asked for its settings.
    """

    key: str
    settings: dict[str, Any]
    config: dict[str, Any]
    results: dict[int, dict[str, float]] = field(default_factory=dict)
    outcome: Outcome | None = None
    message: str = ""
    copies: list[WeightCopy] = field(default_factory=list)
    offsets: Offsets = DEFAULT_OFFSETS
    keys: dict[str, Any] = field(default_factory=dict)
    added: bool = False

    @property
    def spec(self) -> TrialSpec:
        """Validated spec of the trial. Raises ConfigError for a configuration of another version."""
        return TrialSpec.from_dict({"config": self.config, **self.keys})

    @property
    def epochs(self) -> int:
        return max(self.results, default=0)

    def latest(self) -> dict[str, float]:
        """Every metric at the last epoch that has it."""
        return {name: value for epoch in sorted(self.results) for name, value in self.results[epoch].items()}

    def last(self, metric: str) -> float | None:
        """The metric of the last epoch that has it."""
        for epoch in sorted(self.results, reverse=True):
            if metric in self.results[epoch]:
                return self.results[epoch][metric]
        return None

    def seed_scores(self, metric: str) -> list[float]:
        """The metric's last values by seed; none of a trial with a single seed, whose values are its own."""
        found: list[float] = []
        while (score := self.last(seed_metric(metric, len(found)))) is not None:
            found.append(score)
        return found

    def own(self, metric: str) -> float | None:
        """The metric's last value of the network that the trial keeps, which is that of its first seed."""
        return next(iter(self.seed_scores(metric)), self.last(metric))


@dataclass(frozen=True)
class FinalRecord:
    """Decision of a final, written down before its runs are scored on test.

    `trials`: how many trials the searches had begun, those of baselines included. `winner`: the key of the trial that
    won. `runs`: the keys of the runs of each configuration that is scored on test.
    """

    trials: int
    winner: str
    runs: dict[str, list[str]]


# docs/architecture.md#journal-as-the-source-of-truth
class Journal:
    """An append-only file of events, and the trials and finals that they add up to."""

    def __init__(self, path: StoragePath) -> None:
        self.path = path
        self._lines = _Parts(path) if isinstance(path, Remote) else _File(path)
        self.trials = read_records(path) if path.exists() else {}
        self.finals = read_finals(path) if path.exists() else []

    def propose(self, key: str, settings: dict[str, Any], spec: TrialSpec, *, added: bool = False) -> None:
        """Write down a new trial.

        Args:
            key: the trial.
            settings: what the search chose.
            spec: what it trains.
            added: whether a user asked for these settings while the search ran.
        """
        by_hand = {"added": True} if added else {}
        self._write({"event": "trial", "key": key, "settings": settings, **by_hand, **spec.to_dict()})

    def result(self, key: str, epoch: int, metrics: dict[str, float], offsets: Offsets = ()) -> None:
        """Write down an epoch.

        Args:
            key: the trial.
            epoch: which one.
            metrics: its numbers.
            offsets: of the stream; written where they have changed.
        """
        news = {"offsets": offsets} if offsets and offsets != self.trials[key].offsets else {}
        self._write({"event": "result", "key": key, "epoch": epoch, "metrics": metrics, **news})

    def end(self, key: str, outcome: Outcome, message: str = "") -> None:
        """Write down a trial's end.

        Args:
            key: the trial.
            outcome: how it ended.
            message: the cause.
        """
        self._write({"event": "end", "key": key, "outcome": outcome, "message": redact(message)})

    def copy(self, key: str, epoch: int, donor: str, settings: dict[str, Any], spec: TrialSpec) -> None:
        """Write down that a trial goes on with another's weights.

        Args:
            key: the trial.
            epoch: of the donor.
            donor: the other trial.
            settings: what it has from now on.
            spec: what it trains from now on.
        """
        self._write(
            {"event": "copy", "key": key, "epoch": epoch, "donor": donor, "settings": settings, **spec.to_dict()}
        )

    def final(self, final: FinalRecord) -> None:
        """Write down what is scored on test; nothing where that is what was scored last."""
        if self.finals[-1:] != [final]:
            self._write({"event": FINAL, **asdict(final)})
            self.finals.append(final)

    def close(self) -> None:
        self._lines.close()

    def _write(self, event: dict[str, Any]) -> None:
        self._lines.append(json.dumps({**event, "time": round(time.time(), 3)}) + "\n")
        apply_event(self.trials, event)


class _File:
    """Lines of a file, each synced. A last line cut short by a kill is cut off."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                os.truncate(path, len(whole))
        self._file = path.open("a")

    def append(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _Parts:
    """Lines of an object store, where nothing can be appended: the last of several small objects is written anew."""

    def __init__(self, path: Remote) -> None:
        self._path = path
        self._number = max(0, len(_parts(path)) - 1)
        self._content = self._part().read_bytes() if path.exists() else b""

    def append(self, line: str) -> None:
        if len(self._content) > PART_BYTES:
            self._number, self._content = self._number + 1, b""
        self._content += line.encode()
        self._part().write_bytes(self._content)

    def close(self) -> None:
        """Nothing: all is written."""

    def _part(self) -> Remote:
        return self._path.parent / f"{self._path.name}.{self._number:05d}" if self._number else self._path


def _parts(path: Remote) -> list[Remote]:
    return sorted(path.parent.glob(f"{path.name}*"))


def apply_event(trials: dict[str, TrialRecord], event: dict[str, Any]) -> None:
    """Add an event to what the events before it add up to; that of a final is about no trial."""
    if event["event"] == FINAL:
        return
    key = event["key"]
    if event["event"] == "trial":
        added = event.get("added", False)
        trials[key] = TrialRecord(key, event["settings"], event["config"], keys=_keys(event), added=added)
        return
    record = trials[key]
    if event["event"] == "result":
        record.results[event["epoch"]] = event["metrics"]
        record.offsets = tuple((epoch, offset) for epoch, offset in event.get("offsets", record.offsets))
    elif event["event"] == "copy":
        old, new = record.settings, event["settings"]
        changes = {p: (old.get(p), new.get(p)) for p in sorted({*old, *new}) if old.get(p) != new.get(p)}
        record.copies.append(WeightCopy(event["epoch"], event["donor"], changes))
        record.settings, record.config, record.keys = new, event["config"], _keys(event)
    else:
        record.outcome, record.message = event["outcome"], event["message"]


def _keys(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("teachers", "labels") if name in event}


def read_records(path: StoragePath) -> dict[str, TrialRecord]:
    """The trials of a journal that nobody is to write to."""
    trials: dict[str, TrialRecord] = {}
    for event in read_events(path):
        apply_event(trials, event)
    return trials


def read_finals(path: StoragePath) -> list[FinalRecord]:
    """The finals of a journal in their order; sweeps of versions before 0.2 have none."""
    return [
        FinalRecord(event["trials"], event["winner"], event["runs"])
        for event in read_events(path)
        if event["event"] == FINAL
    ]


def scored_again(finals: Sequence[FinalRecord]) -> str:
    """Say that test scores were there before the last trials were tried; empty where they were not."""
    counts = [final.trials for final in finals]
    if not counts or counts[-1] == counts[0]:
        return ""
    more = counts[-1] - counts[0]
    return (
        f"test scored again after {more} more {'trial' if more == 1 else 'trials'}: its scores were seen before, after "
        f"{counts[0]} trials of the searches; scores of configurations that had one are those of then"
    )


def read_events(path: StoragePath) -> Iterator[dict[str, Any]]:
    """The events of a journal in their order; `time` is in seconds since 1970."""
    for part in _parts(path) if isinstance(path, Remote) else [path]:
        for line in part.read_bytes().rpartition(b"\n")[0].decode().splitlines():
            yield json.loads(line)


def role_of(key: str) -> str:
    """Return the role of a trial, by its name: teacher, baseline (of a baseline's search), final or search."""
    return next((role for role in ("teacher", "baseline", "final") if key.startswith(f"{role}-")), "search")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

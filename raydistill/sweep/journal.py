"""The sweep's own record: what was tried and what came of it, one JSON line an event, synced to disk.

Resuming reads this and nothing else, so a driver killed at any moment loses no finished trial.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["finished", "stopped_early", "failed"]


@dataclass
class TrialRecord:
    """One trial: the settings that its search chose, its results by epoch, its end."""

    key: str
    settings: dict[str, Any]
    config: dict[str, Any]
    results: dict[int, dict[str, float]] = field(default_factory=dict)
    outcome: Outcome | None = None
    message: str = ""

    @property
    def epochs(self) -> int:
        return max(self.results, default=0)

    def last(self, metric: str) -> float | None:
        """The metric of the last epoch that has it."""
        for epoch in sorted(self.results, reverse=True):
            if metric in self.results[epoch]:
                return self.results[epoch][metric]
        return None


class Journal:
    """An append-only file of events, and the trials that they add up to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: dict[str, TrialRecord] = {}
        if path.exists():
            self._replay(path.read_bytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")

    def propose(self, key: str, settings: dict[str, Any], config: dict[str, Any]) -> None:
        self._write({"event": "trial", "key": key, "settings": settings, "config": config})

    def result(self, key: str, epoch: int, metrics: dict[str, float]) -> None:
        self._write({"event": "result", "key": key, "epoch": epoch, "metrics": metrics})

    def end(self, key: str, outcome: Outcome, message: str = "") -> None:
        self._write({"event": "end", "key": key, "outcome": outcome, "message": message})

    def close(self) -> None:
        self._file.close()

    def _write(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._apply(event)

    def _replay(self, content: bytes) -> None:
        """A last line cut short by a kill is dropped, and cut off the file."""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.path, len(whole))
        for line in whole.decode().splitlines():
            self._apply(json.loads(line))

    def _apply(self, event: dict[str, Any]) -> None:
        key = event["key"]
        if event["event"] == "trial":
            self.trials[key] = TrialRecord(key, event["settings"], event["config"])
        elif event["event"] == "result":
            self.trials[key].results[event["epoch"]] = event["metrics"]
        else:
            self.trials[key].outcome = event["outcome"]
            self.trials[key].message = event["message"]

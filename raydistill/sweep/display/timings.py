"""Timings of a sweep: where its time goes, from the start of its process on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from raydistill.records.layout import TIMINGS_FILE
from raydistill.storage import StoragePath
from raydistill.table import Table

SETTINGS = "settings and images read"
RAY = "MLflow and Ray started"
READY = "broker ready"
WORKER = "first worker up, torch imported"
STEP = "first training step done"
EPOCH = "last epoch done"
SCORES = "final scores made"
CLOSED = "table written, Ray closed"


def _age() -> float:
    """Seconds since this process started. psutil knows them to a second, Linux to a hundredth."""
    try:
        since_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time() - psutil.Process().create_time()


class Timings:
    """Moments of a sweep, each the end of a stretch of work.

    Args:
        began: when the process started, in seconds since 1970; None: this process.
        clock: the time now, in the same seconds, so that other processes of the machine can tell theirs.
    """

    def __init__(self, began: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self.began = time.time() - _age() if began is None else began
        self._clock = clock
        self._moments: dict[str, float] = {}

    def mark(self, what: str) -> None:
        """Note that something has come to its end now; the last time counts."""
        self._moments[what] = self._clock()

    def told(self, moments: Mapping[str, float]) -> None:
        """Take moments that another process noted."""
        self._moments |= moments

    def seconds(self) -> dict[str, float]:
        """Return the moments in their order, in seconds since the process started."""
        return {what: at - self.began for what, at in sorted(self._moments.items(), key=lambda moment: moment[1])}

    def table(self) -> Table:
        """Return when each moment was, and how long after the one before."""
        rows, before = [], 0.0
        for what, at in self.seconds().items():
            rows.append([what, f"{at:.1f} s", f"{at - before:.1f} s"])
            before = at
        return Table(["", "at", "after"], rows)

    def write(self, folder: StoragePath) -> None:
        """Keep the moments in a sweep's folder."""
        rounded = {what: round(at, 2) for what, at in self.seconds().items()}
        (folder / TIMINGS_FILE).write_text(json.dumps(rounded, indent=1))

"""The broker: matches waiting trials with packs. An asyncio object that Ray runs as an actor.

A trial joins, then asks for one epoch after another (`next`) until it leaves. A pack asks at every epoch
boundary what to do; the answer comes when each of its learners has either asked for its next epoch or
left, so that the scheduler's decision on one epoch is known before the next begins.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from raydistill.training.pack import Assignment, Report
from raydistill.training.worker import Orders


@dataclass
class _Trial:
    assignment: Assignment
    data: dict[str, Any]
    joined: float
    pack: str | None = None
    wants_epoch: bool = False
    leaving: bool = False
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)


@dataclass
class _Pack:
    data: dict[str, Any] | None = None
    members: list[str] = field(default_factory=list)
    share: float = 0.0


class Broker:
    """Args:
    capacity: learners per pack.
    gather_seconds: an empty pack waits this long after the first trial came, for others to share with.
    """

    def __init__(self, capacity: int, gather_seconds: float = 3.0) -> None:
        self.capacity = capacity
        self.gather_seconds = gather_seconds
        self.expected = capacity
        self._trials: dict[str, _Trial] = {}
        self._packs: dict[str, _Pack] = {}
        self._closing = False
        self._failure = ""
        self._changed = asyncio.Condition()

    async def expect(self, trials: int) -> None:
        """How many trials will run at once: an empty pack need not wait for more."""
        self.expected = min(trials, self.capacity)

    async def join(self, key: str, config: dict[str, Any], directory: str) -> None:
        """A trial waits for a pack. Joining again replaces an earlier life of the same trial."""
        async with self._changed:
            self._forget(key)
            self._trials[key] = _Trial(Assignment(key, config, directory), config["data"], time.monotonic())
            self._changed.notify_all()

    async def next(self, key: str) -> Report:
        """The report of the trial's next epoch; waits until a pack has trained it."""
        async with self._changed:
            trial = self._trials.get(key)
            if trial is None:
                return Report(key, error=f"trial {key} is not in the sweep")
            if self._failure and trial.reports.empty():
                return Report(key, error=self._failure)
            trial.wants_epoch = True
            self._changed.notify_all()
        return await trial.reports.get()

    async def leave(self, key: str) -> None:
        """The trial wants no more epochs."""
        async with self._changed:
            if trial := self._trials.get(key):
                trial.leaving = True
                if trial.pack is None:
                    self._forget(key)
                self._changed.notify_all()

    async def boundary(self, pack_id: str, reports: list[Report], fresh: bool = False) -> Orders:
        """What the pack does next. A `fresh` worker group starts all its learners again."""
        async with self._changed:
            pack = self._packs.setdefault(pack_id, _Pack())
            if fresh:
                self._release(pack)
            pack.share = 0.0
            for report in reports:
                self._deliver(pack, report)
            started: list[Assignment] = []
            stopped: list[str] = []
            while True:
                stopped += self._dismiss(pack)
                started = [a for a in started if a.key not in stopped] + self._assign(pack_id, pack)
                if pack.members and all(self._trials[key].wants_epoch for key in pack.members):
                    return Orders(pack.data, started, stopped)
                if not pack.members and self._closing:
                    return Orders(close=True)
                await self._wait()

    async def tick(self, pack_id: str, share: float) -> None:
        """A pack has done this share of its epoch."""
        if pack := self._packs.get(pack_id):
            pack.share = share

    async def shares(self) -> list[float]:
        """How far each pack that has learners is in its epoch."""
        return [pack.share for pack in self._packs.values() if pack.members]

    async def pack_failed(self, pack_id: str, message: str) -> None:
        """A worker group is gone for good: its trials fail, and with the last group everything does."""
        async with self._changed:
            pack = self._packs.pop(pack_id, _Pack())
            lost = list(pack.members)
            if not self._packs:
                self._failure = message
                lost = [key for key, trial in self._trials.items() if not trial.leaving]
            for key in lost:
                self._trials[key].reports.put_nowait(Report(key, error=message))
            self._changed.notify_all()

    async def close(self) -> None:
        """Packs end when their last learner has left."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()

    async def _wait(self) -> None:
        """Until something changes, or an empty pack's time for gathering may be over."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout=0.25)
        except TimeoutError:
            return

    def _deliver(self, pack: _Pack, report: Report) -> None:
        trial = self._trials.get(report.key)
        if trial is None or report.key not in pack.members:
            return
        trial.wants_epoch = False
        trial.reports.put_nowait(report)
        if report.done or report.error:
            pack.members.remove(report.key)
            trial.pack = None

    def _dismiss(self, pack: _Pack) -> list[str]:
        gone = [key for key in pack.members if key not in self._trials or self._trials[key].leaving]
        for key in gone:
            pack.members.remove(key)
            self._trials.pop(key, None)
        return gone

    def _assign(self, pack_id: str, pack: _Pack) -> list[Assignment]:
        waiting = [t for t in self._trials.values() if t.pack is None and t.wants_epoch and not t.leaving]
        if not waiting:
            return []
        if not pack.members:
            oldest = min(trial.joined for trial in waiting)
            if len(waiting) < self.expected and time.monotonic() - oldest < self.gather_seconds:
                return []
            pack.data = min(waiting, key=lambda trial: trial.joined).data
        fitting = [trial for trial in waiting if trial.data == pack.data]
        taken = fitting[: self.capacity - len(pack.members)]
        for trial in taken:
            trial.pack = pack_id
            pack.members.append(trial.assignment.key)
        return [trial.assignment for trial in taken]

    def _release(self, pack: _Pack) -> None:
        for key in pack.members:
            if trial := self._trials.get(key):
                trial.pack = None
        pack.members = []

    def _forget(self, key: str) -> None:
        trial = self._trials.pop(key, None)
        for pack in self._packs.values():
            if trial is not None and key in pack.members:
                pack.members.remove(key)

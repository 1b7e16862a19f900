"""The broker: matches waiting trials with worker groups. An asyncio object that Ray runs as an actor.

A trial joins, then asks for one epoch after another (`next`) until it leaves. A group asks at every epoch
boundary what to do; the answer comes when every learner of the pack that is next has either asked for its next
epoch or left, so that the scheduler's decision on one epoch is known before the next begins. A group holds one
pack for each data setting among its learners and trains them in turn.

Groups come and go: one is launched when trials wait that no group has room for, up to the sweep's limit, and
ends when it has had nothing to do for a while, so that a cluster grows and shrinks with the search.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from raydistill.sweep.workers.capacity import MAX_LEARNERS, CapacityController
from raydistill.training.messages import Assignment, Directive, EpochResult, EpochStats, data_key

PLACEMENT_TIMEOUT_S = 60.0  # seconds that a trial waits for a group of its own before it joins one with other data
CLOSE_TIMEOUT_S = 10.0
MAX_LOST_HOSTS = 10  # of groups that may be lost with their node or process
MAX_WORKER_RESTARTS = 2  # of the workers of a single learner, until it is to blame


@dataclass
class _Trial:
    assignment: Assignment
    joined: float
    group: str | None = None
    wants_epoch: bool = False
    leaving: bool = False
    reports: asyncio.Queue[EpochResult] = field(default_factory=asyncio.Queue)

    @property
    def data(self) -> dict[str, Any]:
        return self.assignment.config["data"]

    @property
    def waits(self) -> bool:
        return self.group is None and self.wants_epoch and not self.leaving


@dataclass
class _Group:
    """`workers` that have asked for directives, none before they are up, and their `generation`. `deaths` of them since
    an epoch ended; the `suspects` are the learners among which one kills them. The `dropped` were taken from it and
    still train there."""

    size: CapacityController
    started: float
    workers: int = 0
    generation: int = 0
    members: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    turn: list[str] = field(default_factory=list)
    training: str | None = None
    share: float = 0.0
    idle_since: float | None = None
    deaths: int = 0
    suspects: list[str] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.size.capacity - len(self.members)

    def kept_out(self, key: str) -> bool:
        """Half the suspects wait outside while the others train."""
        return key in self.suspects[max(1, len(self.suspects) // 2) :]


class Broker:
    """Args:
    groups: worker groups at most.
    learners: in each; None: as many as pay, found by measurement, up to `most`.
    launch: starts the group with the given name, and may return what ends with it; None: groups come by themselves.
    gather_seconds: an empty group waits this long after the first trial came, for others to share with.
    idle_seconds: a group without work for this long ends.
    """

    def __init__(
        self,
        groups: int = 1,
        learners: int | None = None,
        *,
        most: int = MAX_LEARNERS,
        launch: Callable[[str], Awaitable[None] | None] | None = None,
        gather_seconds: float = 3.0,
        idle_seconds: float = 60.0,
    ) -> None:
        self.limit, self.learners, self.most = groups, learners, most
        self.launch = launch
        self.gather_seconds, self.idle_seconds = gather_seconds, idle_seconds
        self.expected: int | None = None
        self._trials: dict[str, _Trial] = {}
        self._groups: dict[str, _Group] = {}
        self._launched = 0
        self._closing = False
        self._failure = ""
        self._changed = asyncio.Condition()
        self._watching: set[asyncio.Future[None]] = set()
        self._hosts_lost = 0

    async def expect(self, trials: int) -> None:
        """So many trials will come: a group starts at once, and when it is empty need not wait for more."""
        async with self._changed:
            self.expected = trials
            if not self._groups:
                self._launch_group()

    async def join(self, assignment: Assignment) -> None:
        """A trial waits for a group. Joining again replaces an earlier life of the same trial."""
        async with self._changed:
            self._forget(assignment.key)
            self._trials[assignment.key] = _Trial(assignment, time.monotonic())
            self._changed.notify_all()

    async def next(self, key: str) -> EpochResult:
        """The report of the trial's next epoch; waits until a pack has trained it."""
        async with self._changed:
            trial = self._trials.get(key)
            if trial is None:
                return EpochResult(key, error=f"trial {key} is not in the sweep")
            if self._failure and trial.reports.empty():
                return EpochResult(key, error=self._failure)
            trial.wants_epoch = True
            self._launch_what_is_missing()
            self._changed.notify_all()
        return await trial.reports.get()

    async def leave(self, key: str) -> None:
        """The trial wants no more epochs, for good or until it joins again."""
        async with self._changed:
            if trial := self._trials.get(key):
                trial.leaving = True
                if trial.group is None:
                    self._forget(key)
                self._changed.notify_all()

    async def boundary(
        self,
        name: str,
        reports: list[EpochResult],
        load: EpochStats | None = None,
        fresh: bool = False,
        workers: int = 1,
    ) -> Directive:
        """What the group does next. Fresh workers start all its learners again; those before them, if they still
        wait here, are dead and get nothing."""
        async with self._changed:
            if self.launch is not None and name not in self._groups:
                return Directive(close=True)  # Its host is gone, and its workers will be.
            group = self._groups.setdefault(name, self._new_group())
            group.workers = workers
            if fresh:
                group.generation += 1
                self._restarted(group)
            generation = group.generation
            group.share, group.training = 0.0, None
            if reports:
                group.deaths = 0
                group.suspects = [key for key in group.suspects if key not in {report.key for report in reports}]
            if load is not None:
                group.size.observe(load)
            for report in reports:
                self._deliver(group, report)
            started: list[Assignment] = []
            stopped: list[str] = []
            while True:
                if generation != group.generation or self._groups.get(name) is not group:
                    return Directive(close=True)
                gone = self._dismiss(group)
                stopped += gone
                started = [a for a in started if a.key not in gone] + self._assign(name, group)
                self._launch_what_is_missing()
                if ready := self._next_pack(group):
                    group.training, group.idle_since = data_key(ready), None
                    return Directive(ready, started, stopped)
                if not group.members and self._may_end(group):
                    del self._groups[name]
                    self._changed.notify_all()
                    return Directive(close=True)
                await self._wait()

    async def tick(self, name: str, share: float) -> None:
        """A group has done this share of its epoch."""
        if group := self._groups.get(name):
            group.share = share

    async def status(self) -> dict[str, Any]:
        """`room`: trials that may run at once; `workers` there are; `shares`: how far their epochs are."""
        room = sum(group.size.capacity for group in self._groups.values())
        unborn = CapacityController(self.learners, self.most).capacity * (self.limit - len(self._groups))
        return {
            "room": room + unborn,
            "workers": sum(group.workers for group in self._groups.values()),
            "shares": [group.share for group in self._groups.values() if group.training],
        }

    async def learner_failed(self, name: str, report: EpochResult) -> None:
        """One of several workers fell over a learner; its group will start again without it."""
        async with self._changed:
            if group := self._groups.get(name):
                self._deliver(group, report)
                group.deaths = -1  # The workers that will ask next are fresh, and none has died.
                self._changed.notify_all()

    async def group_failed(self, name: str, message: str) -> None:
        """A group is gone for good: its trials fail, and with the last group everything does."""
        async with self._changed:
            group = self._groups.pop(name, self._new_group())
            self.limit = max(1, self.limit - 1)
            lost = list(group.members)
            if not self._groups:
                self._failure = message
                lost = [key for key, trial in self._trials.items() if not trial.leaving]
            for key in lost:
                if trial := self._trials.get(key):
                    trial.group = None
                    trial.reports.put_nowait(EpochResult(key, error=message))
            self._changed.notify_all()

    async def close(self) -> None:
        """Groups end when their last learner has left. Returns when they have."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: not any(group.workers for group in self._groups.values()))
        if self._watching:
            # So that Ray Train ends its own actors in order.
            await asyncio.wait(self._watching, timeout=CLOSE_TIMEOUT_S)

    async def _wait(self) -> None:
        """Until something changes, or a time for gathering, patience or idling may be over."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout=0.25)
        except TimeoutError:
            return

    def _new_group(self) -> _Group:
        return _Group(CapacityController(self.learners, self.most), time.monotonic())

    def _may_end(self, group: _Group) -> bool:
        if self._closing:
            return True
        group.idle_since = group.idle_since or time.monotonic()
        return time.monotonic() - group.idle_since > self.idle_seconds

    def _next_pack(self, group: _Group) -> dict[str, Any] | None:
        """The data of the pack whose turn it is, among those all of whose learners are ready."""
        packs: dict[str, list[_Trial]] = {}
        for key in group.members:
            packs.setdefault(data_key(self._trials[key].data), []).append(self._trials[key])
        group.turn = [name for name in group.turn if name in packs] + [n for n in packs if n not in group.turn]
        for name in group.turn:
            if all(trial.wants_epoch for trial in packs[name]):
                group.turn.remove(name)
                group.turn.append(name)
                return packs[name][0].data
        return None

    def _deliver(self, group: _Group, report: EpochResult) -> None:
        trial = self._trials.get(report.key)
        if trial is None or report.key not in group.members:
            return
        if report.memory and len(group.members) > 1:
            group.size.on_oom(len(group.members))
            group.members.remove(report.key)
            trial.group = None
            return
        trial.wants_epoch = False
        trial.assignment = replace(
            trial.assignment, last_delivered_epoch=max(report.epoch, trial.assignment.last_delivered_epoch or 0)
        )
        trial.reports.put_nowait(report)
        if report.done or report.error:
            group.members.remove(report.key)
            trial.group = None

    def _restarted(self, group: _Group) -> None:
        """Its workers are the first, or the ones before them died. The first death is taken for an accident; from
        the second on, with no epoch between, the learners are halved until one is found that kills them."""
        members = list(group.members)
        if members:
            group.deaths += 1
            blamed = [key for key in members if key in group.suspects] or members
            if len(blamed) == 1 and (group.suspects or group.deaths > MAX_WORKER_RESTARTS):
                self._deliver(group, EpochResult(blamed[0], error="its workers died each time that it trained"))
                group.deaths, group.suspects = 0, [key for key in group.suspects if key != blamed[0]]
            elif group.suspects or group.deaths > 1:
                group.suspects = blamed
        self._release(group)

    def _release(self, group: _Group) -> None:
        """Its members wait for a place again; nothing trains there."""
        group.dropped = []
        for key in group.members:
            if trial := self._trials.get(key):
                trial.group = None
        group.members = []

    def _dismiss(self, group: _Group) -> list[str]:
        dropped, group.dropped = group.dropped, []
        gone = [key for key in group.members if key not in self._trials or self._trials[key].leaving]
        for key in gone:
            group.members.remove(key)
            self._trials.pop(key, None)
        return dropped + gone

    def _assign(self, name: str, group: _Group) -> list[Assignment]:
        waiting = [trial for trial in self._trials.values() if trial.waits]
        if not waiting or self._gathers(group, waiting):
            return []
        taken = []
        for trial in waiting:
            key = trial.assignment.key
            trains_still = any(key in other.dropped for other in self._groups.values())
            if group.room > 0 and not group.kept_out(key) and not trains_still and self._suits(trial, name, group):
                trial.group = name
                group.members.append(key)
                taken.append(trial.assignment)
        return taken

    def _gathers(self, group: _Group, waiting: list[_Trial]) -> bool:
        """Whether an empty group should wait a little for more trials to come."""
        enough = group.size.capacity if self.expected is None else min(self.expected, group.size.capacity)
        oldest = min(trial.joined for trial in waiting)
        return not group.members and len(waiting) < enough and time.monotonic() - oldest < self.gather_seconds

    def _suits(self, trial: _Trial, name: str, group: _Group) -> bool:
        """Whether no other group is the better place for a trial."""
        if self._holds(group, trial):
            return True
        if any(self._holds(other, trial) and other.room > 0 for key, other in self._groups.items() if key != name):
            return False
        if not group.members:
            return True
        another = len(self._groups) < self.limit or any(not g.members and g is not group for g in self._groups.values())
        return not (another and self.launch) or time.monotonic() - trial.joined > PLACEMENT_TIMEOUT_S

    def _holds(self, group: _Group, trial: _Trial) -> bool:
        return any(self._trials[key].data == trial.data for key in group.members if key in self._trials)

    def _launch_group(self) -> str:
        name = f"pack-{self._launched}"
        if self.launch is not None:
            self._launched += 1
            self._groups[name] = self._new_group()
            if (ended := self.launch(name)) is not None:
                self._watching.add(asyncio.ensure_future(self._watch(name, ended)))
        return name

    async def _watch(self, name: str, ended: Awaitable[None]) -> None:
        """A host that dies takes its workers along and says nothing: its trials wait for another."""
        try:
            await ended
        except Exception as error:
            async with self._changed:
                group = self._groups.get(name)
                if group is None:
                    return
                self._hosts_lost += 1
                if self._closing or self._hosts_lost <= MAX_LOST_HOSTS:
                    del self._groups[name]
                    self._release(group)
                    self._launch_what_is_missing()
                    self._changed.notify_all()
                    return
            await self.group_failed(name, f"worker group {name} is gone: {' '.join(str(error).split())[:300]}")

    def _launch_what_is_missing(self) -> None:
        """Another group, if trials wait that none has room for."""
        if self.launch is None or self._failure:
            return
        room = {key: group.room for key, group in self._groups.items()}
        held = {
            key: {data_key(self._trials[m].data) for m in group.members if m in self._trials}
            for key, group in self._groups.items()
        }
        for trial in (trial for trial in self._trials.values() if trial.waits):
            data = data_key(trial.data)
            fitting = [key for key in room if room[key] > 0 and (data in held[key] or not held[key])]
            if not fitting and len(self._groups) < self.limit:
                name = self._launch_group()
                room[name], held[name] = self._groups[name].room, set()
                fitting = [name]
            if fitting:
                best = max(fitting, key=lambda key: data in held[key])
                room[best] -= 1
                held[best].add(data)

    def _forget(self, key: str) -> None:
        self._trials.pop(key, None)
        for group in self._groups.values():
            if key in group.members:
                group.members.remove(key)
                group.dropped.append(key)
            group.suspects = [suspect for suspect in group.suspects if suspect != key]

"""The broker: matches waiting trials with worker groups. An asyncio object that Ray runs as an actor.

A trial joins, then asks for one epoch after another (`next`) until it leaves. A group asks at every epoch
boundary what to do. The answer comes when every learner of the pack that is next has either asked for its next
epoch or left, so that the scheduler's decision on one epoch is known before the next begins.

Groups come and go. One is launched when trials wait that no group has room for, up to the sweep's limit, and
ends when it has had nothing to do for a while, so that a cluster grows and shrinks with the search.

The broker holds the waiting and the life of groups. It asks plain objects for its decisions: `placement` (which
group takes which trial) and `fault_isolation` (which learner kills its workers).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raydistill.sweep.workers.capacity import MAX_LEARNERS, CapacityController
from raydistill.sweep.workers.group_state import GroupState
from raydistill.sweep.workers.placement import Placement
from raydistill.sweep.workers.registry import TrialRegistry
from raydistill.training.messages import Directive, EpochResult, EpochStats, JoinRequest, data_key

CLOSE_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.25
MAX_LOST_HOSTS = 10  # of groups that may be lost with their node or process


# docs/architecture.md#broker-of-plain-objects
class Broker:
    """Match waiting trials with worker groups.

    Args:
        groups: worker groups at most.
        learners: in each; None: as many as pay, found by measurement, up to `most`.
        most: learners in a group at most, where `learners` is None.
        unit: learners of one trial.
        launch: starts the group with the given name, and may return what ends with it; None: groups come by
            themselves.
        gather_seconds: an empty group waits this long after the first trial came, for others to share with.
        idle_seconds: a group without work for this long ends.
    """

    def __init__(
        self,
        groups: int = 1,
        learners: int | None = None,
        *,
        most: int = MAX_LEARNERS,
        unit: int = 1,
        launch: Callable[[str], Awaitable[None] | None] | None = None,
        gather_seconds: float = 3.0,
        idle_seconds: float = 60.0,
    ) -> None:
        self.learners, self.most, self.unit = learners, most, unit
        self.launch = launch
        self.idle_seconds = idle_seconds
        self.placement = Placement(groups, can_launch=launch is not None, gather_seconds=gather_seconds)
        self._trials = TrialRegistry()
        self._groups: dict[str, GroupState] = {}
        self._launched = 0
        self._closing = False
        self._failure = ""
        self._changed = asyncio.Condition()
        self._watching: set[asyncio.Future[None]] = set()
        self._hosts_lost = 0
        self._moments: dict[str, float] = {}

    async def expect(self, trials: int) -> None:
        """Say how many trials will come: a group starts at once, and while empty need not wait for more."""
        async with self._changed:
            self.placement.expected_trials = trials
            if not self._groups:
                self._launch_group()

    async def join(self, request: JoinRequest) -> None:
        """Add a trial. Joining again replaces an earlier life of the same trial."""
        async with self._changed:
            self._forget(request.key)
            self._trials.join(request, time.monotonic())
            self._changed.notify_all()

    async def next(self, key: str) -> EpochResult:
        """Return the result of the trial's next epoch, once a pack has trained it."""
        arrived = asyncio.Event()
        async with self._changed:
            trial = self._trials.get(key)
            if trial is None:
                return EpochResult(key, error=f"trial {key} is not in the sweep")
            if self._failure and not trial.results:
                return EpochResult(key, error=self._failure)
            trial.wants_epoch = True
            trial.on_result = arrived.set
            self._launch_what_is_missing()
            self._changed.notify_all()
        if not trial.results:
            await arrived.wait()
        return trial.results.popleft()

    async def leave(self, key: str) -> None:
        """Note that a trial wants no more epochs, for good or until it joins again."""
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
        """Return what a group does next, once that is clear.

        Fresh workers start all its learners again. The workers before them are dead, and what they still wait for
        here is a directive to close.

        Args:
            name: of the group.
            reports: results of the epoch that ended.
            load: what the epoch took.
            fresh: whether the workers have just started.
            workers: how many they are.
        """
        async with self._changed:
            if self.launch is not None and name not in self._groups:
                return Directive(close=True)  # Its host is gone, and its workers will be.
            group = self._groups.setdefault(name, self._new_group(name))
            group.workers = workers
            if fresh:
                group.generation += 1
                if culprit := group.faults.on_restart(list(group.members)):
                    group.deliver(EpochResult(culprit, error="its workers died each time that it trained"))
                group.release()
            generation = group.generation
            innocent = {report.key for report in reports}
            if load is not None:
                group.size.observe(load)
                innocent |= group.in_training()  # epochs that are repeated have no results
            if innocent:
                group.faults.on_epoch(innocent)
            group.share, group.training = 0.0, None
            group.deliver(*reports)
            started: list[JoinRequest] = []
            stopped: list[str] = []
            while True:
                if generation != group.generation or self._groups.get(name) is not group:
                    return Directive(close=True)
                gone = self._dismiss(group)
                stopped += gone
                started = [a for a in started if a.key not in gone] + self._assign(group)
                self._launch_what_is_missing()
                if ready := group.next_pack():
                    group.training, group.idle_since_s = data_key(ready), None
                    return Directive(ready, started, stopped)
                if not group.members and self._may_end(group):
                    del self._groups[name]
                    self._changed.notify_all()
                    return Directive(close=True)
                await self._wait()

    async def tick(self, name: str, share: float) -> None:
        """Note what share of its epoch a group has done."""
        if group := self._groups.get(name):
            group.share = share

    async def status(self) -> dict[str, Any]:
        """Return `room`, the learners that may train at once, `workers`, and `shares` of the trials' running epochs."""
        room = sum(group.size.capacity for group in self._groups.values())
        unborn = self._new_size().capacity * (self.placement.max_groups - len(self._groups))
        return {
            "room": room + unborn,
            "workers": sum(group.workers for group in self._groups.values()),
            "shares": {key: group.share for group in self._groups.values() for key in group.in_training()},
        }

    async def note(self, what: str, when: float) -> None:
        """Note a moment of a worker, in seconds since 1970; the first of several counts."""
        self._moments.setdefault(what, when)

    async def moments(self) -> dict[str, float]:
        """Return what workers have noted."""
        return dict(self._moments)

    async def learners_failed(self, name: str, reports: list[EpochResult]) -> None:
        """Pass on the errors of learners that one of several workers failed on; its group starts again."""
        async with self._changed:
            if group := self._groups.get(name):
                group.deliver(*reports)
                group.faults.on_explained_death()
                self._changed.notify_all()

    async def wants(self, name: str) -> bool:
        """Return whether a group is still one of the sweep's; the workers of another one end."""
        return self.launch is None or name in self._groups

    async def group_failed(self, name: str, message: str) -> None:
        """End a group that is gone for good. Its trials wait for another; with the last group all trials fail."""
        async with self._changed:
            if self.launch is not None and name not in self._groups:
                return  # told before
            group = self._groups.pop(name, self._new_group(name))
            self.placement.max_groups = max(1, self.placement.max_groups - 1)
            group.release()
            if not self._groups:
                self._failure = message
                for trial in self._trials.staying():
                    trial.send(EpochResult(trial.key, error=message))
            self._launch_what_is_missing()
            self._changed.notify_all()

    async def close(self) -> None:
        """Let each group end when its last learner has left; return when all have."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: not any(group.workers for group in self._groups.values()))
        if self._watching:
            # So that Ray Train ends its own actors in order.
            await asyncio.wait(self._watching, timeout=CLOSE_TIMEOUT_S)

    async def _wait(self) -> None:
        """Wait until something changes, or a time for gathering, placing or idling may be over."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout=POLL_INTERVAL_S)
        except TimeoutError:
            return

    def _new_size(self) -> CapacityController:
        return CapacityController(self.learners, self.most, self.unit)

    def _new_group(self, name: str) -> GroupState:
        return GroupState(name, self._new_size())

    def _may_end(self, group: GroupState) -> bool:
        """Return whether a group without members has been idle for long enough, or the sweep is at its end."""
        if self._closing:
            return True
        group.idle_since_s = group.idle_since_s or time.monotonic()
        return time.monotonic() - group.idle_since_s > self.idle_seconds

    def _dismiss(self, group: GroupState) -> list[str]:
        """Remove the members that leave from the sweep; return all that the workers are to stop."""
        leaving = [key for key, trial in group.members.items() if trial.leaving]
        for key in leaving:
            self._trials.forget(key)
        return group.dismiss()

    def _assign(self, group: GroupState) -> list[JoinRequest]:
        taken = self.placement.assign(group, self._groups.values(), self._trials.waiting(), time.monotonic())
        return [trial.request for trial in taken]

    def _launch_group(self) -> None:
        if self.launch is None:
            return
        name = f"pack-{self._launched}"
        self._launched += 1
        self._groups[name] = self._new_group(name)
        if (ended := self.launch(name)) is not None:
            self._watching.add(asyncio.ensure_future(self._watch(name, ended)))

    async def _watch(self, name: str, ended: Awaitable[None]) -> None:
        """Await the end of a group's host. If it dies, its workers end with it, and its trials wait for another."""
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
                    group.release()
                    self._launch_what_is_missing()
                    self._changed.notify_all()
                    return
            await self.group_failed(name, f"worker group {name} is gone: {' '.join(str(error).split())[:300]}")

    def _launch_what_is_missing(self) -> None:
        """Launch groups for the waiting trials that no group has room for."""
        if self._failure:
            return
        capacity = self._new_size().capacity
        for _ in range(self.placement.missing_groups(self._groups.values(), self._trials.waiting(), capacity)):
            self._launch_group()

    def _forget(self, key: str) -> None:
        """Drop a trial here and in every group."""
        self._trials.forget(key)
        for group in self._groups.values():
            group.forget(key)

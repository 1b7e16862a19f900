"""Decides which worker group takes which trial, and when another group is needed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from raydistill.sweep.workers.group_state import GroupState
from raydistill.sweep.workers.registry import JoinedTrial
from raydistill.training.messages import data_key

PLACEMENT_TIMEOUT_S = 60.0  # that a trial waits for a group of its own before it joins one with other data


@dataclass
class Placement:
    """Place trials by their data settings: beside equal ones first, then in an empty group, then with others.

    Attributes:
        max_groups: worker groups at most.
        can_launch: whether a group can be started when trials need one.
        gather_seconds: an empty group waits this long after the first trial came, for others to share with.
        expected_trials: how many trials will come, if that is known. An empty group need not wait for more.
    """

    max_groups: int = 1
    can_launch: bool = False
    gather_seconds: float = 3.0
    expected_trials: int | None = None

    def assign(
        self, group: GroupState, groups: Collection[GroupState], waiting: Sequence[JoinedTrial], now_s: float
    ) -> list[JoinedTrial]:
        """Add the waiting trials to a group that belong there, and return them.

        Args:
            group: the one that has come to an epoch boundary.
            groups: all there are, with this one.
            waiting: the trials without a group, in the order in which they joined.
            now_s: the time, by the clock of the trials' `joined_at_s`.
        """
        if not waiting or self._gathers(group, waiting, now_s):
            return []
        taken = []
        for trial in waiting:
            still_trains = any(trial.key in other.dropped for other in groups)
            if (
                group.fits(trial)
                and not group.faults.held_back(trial.key)
                and not still_trains
                and self._suits(trial, group, groups, now_s)
            ):
                group.add(trial)
                taken.append(trial)
        return taken

    def missing_groups(self, groups: Collection[GroupState], waiting: Sequence[JoinedTrial], capacity: int) -> int:
        """Return how many groups to launch for the waiting trials that no group has room for.

        Args:
            groups: all there are.
            waiting: the trials without a group, in the order in which they joined.
            capacity: of a new group, in learners.
        """
        if not self.can_launch:
            return 0
        places = [_Places(group.room, {data_key(t.data) for t in group.members.values()}) for group in groups]
        for trial in waiting:
            data = data_key(trial.data)
            fitting = [place for place in places if place.fits(trial.learners, data)]
            if not fitting and len(places) < self.max_groups:
                fitting = [_Places(capacity)]
                places += fitting
            if fitting:
                best = max(fitting, key=lambda place: data in place.data)
                best.room -= trial.learners
                best.data.add(data)
        return len(places) - len(groups)

    def _gathers(self, group: GroupState, waiting: Sequence[JoinedTrial], now_s: float) -> bool:
        """Return whether an empty group should wait a little for more trials to come."""
        oldest_s = min(trial.joined_at_s for trial in waiting)
        full = sum(trial.learners for trial in waiting) + waiting[-1].learners > group.size.capacity
        all_here = self.expected_trials is not None and len(waiting) >= self.expected_trials
        return not group.members and not full and not all_here and now_s - oldest_s < self.gather_seconds

    def _suits(self, trial: JoinedTrial, group: GroupState, groups: Collection[GroupState], now_s: float) -> bool:
        """Return whether no other group is the better place for a trial."""
        if group.holds(trial.data):
            return True
        others = [other for other in groups if other is not group]
        if any(other.holds(trial.data) and other.fits(trial) for other in others):
            return False
        if not group.members:
            return True
        another = len(groups) < self.max_groups or any(not other.members for other in others)
        return not (another and self.can_launch) or now_s - trial.joined_at_s > PLACEMENT_TIMEOUT_S


@dataclass
class _Places:
    """The room of a group and the data settings that it holds, while a placement is thought through."""

    room: int
    data: set[str] = field(default_factory=set)

    def fits(self, learners: int, data: str) -> bool:
        """Return whether a trial with so many learners on such data goes here; an empty group takes every trial."""
        return not self.data or (data in self.data and learners <= self.room)

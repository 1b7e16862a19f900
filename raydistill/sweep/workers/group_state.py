"""State of one worker group as the broker sees it: its members, their packs and its capacity."""

from __future__ import annotations

from dataclasses import dataclass, field

from raydistill.config import DataConfig
from raydistill.sweep.workers.capacity import CapacityController
from raydistill.sweep.workers.fault_isolation import FaultIsolation
from raydistill.sweep.workers.registry import JoinedTrial
from raydistill.training.messages import EpochResult, data_key


@dataclass(eq=False)
class GroupState:
    """One group of workers. It holds a pack for each data setting among its members, and trains them in turn.

    Attributes:
        name: of the group.
        size: how many learners its members may have together.
        workers: that have asked for directives; none before they are up.
        generation: rises with each restart of the workers.
        members: the trials that it holds, by key.
        dropped: trials that were taken from it and still train there until the next boundary.
        turn: names of the packs, the next first.
        training: the name of the pack that trains now, or None.
        share: of the present epoch that is done.
        idle_since_s: when it ran out of members, or None.
        faults: finds a member that kills the workers.
    """

    name: str
    size: CapacityController
    workers: int = 0
    generation: int = 0
    members: dict[str, JoinedTrial] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    turn: list[str] = field(default_factory=list)
    training: str | None = None
    share: float = 0.0
    idle_since_s: float | None = None
    faults: FaultIsolation = field(default_factory=FaultIsolation)

    @property
    def learners(self) -> int:
        """Number of learners of all members."""
        return sum(trial.learners for trial in self.members.values())

    @property
    def room(self) -> int:
        """Number of learners that it can still take; below zero after memory ran out."""
        return self.size.capacity - self.learners

    # docs/architecture.md#room-for-several-seeds
    def fits(self, trial: JoinedTrial) -> bool:
        """Return whether it can take a trial; without members it takes one of any number of learners."""
        return not self.members or trial.learners <= self.room

    def holds(self, data: DataConfig) -> bool:
        """Return whether a member has these data settings."""
        return any(trial.data == data for trial in self.members.values())

    def in_training(self) -> set[str]:
        """Return the keys of the members whose pack trains now."""
        return {key for key, trial in self.members.items() if data_key(trial.data) == self.training}

    def add(self, trial: JoinedTrial) -> None:
        """Take a trial in."""
        trial.group = self.name
        self.members[trial.key] = trial

    def remove(self, key: str) -> None:
        """Let a member go; it may wait for a place again."""
        self.members.pop(key).group = None

    def release(self) -> None:
        """Let all members go, when nothing trains here any more."""
        self.dropped = []
        for key in list(self.members):
            self.remove(key)

    def forget(self, key: str) -> None:
        """Drop a trial that left the sweep or starts again; its workers hear of it at the next boundary."""
        if self.members.pop(key, None) is not None:
            self.dropped.append(key)
        self.faults.forget(key)

    def dismiss(self) -> list[str]:
        """Remove the members that leave; return all that the workers are to stop."""
        leaving = [key for key, trial in self.members.items() if trial.leaving]
        for key in leaving:
            self.remove(key)
        stopped, self.dropped = self.dropped + leaving, []
        return stopped

    # docs/architecture.md#memory-that-runs-out
    def deliver(self, *results: EpochResult) -> None:
        """Pass results on. Members that ran out of memory beside others wait for another place instead.

        The group shrinks once, however many they are: by one where it is one, and to half where they are several,
        since what they share then had no room.
        """
        found = [result for result in results if result.key in self.members]
        crowded = [result.key for result in found if result.memory] if len(self.members) > 1 else []
        if crowded:
            self.size.on_oom(self.learners - 1 if len(crowded) == 1 else self.learners // 2)
        for result in found:
            if result.key not in crowded:
                self.members[result.key].deliver(result)
            if result.key in crowded or result.done or result.error:
                self.remove(result.key)

    # docs/architecture.md#groups-and-packs
    def next_pack(self) -> DataConfig | None:
        """Return the data settings of the pack whose turn it is, among those whose members all want an epoch."""
        packs: dict[str, list[JoinedTrial]] = {}
        for trial in self.members.values():
            packs.setdefault(data_key(trial.data), []).append(trial)
        self.turn = [name for name in self.turn if name in packs] + [name for name in packs if name not in self.turn]
        for name in self.turn:
            if all(trial.wants_epoch for trial in packs[name]):
                self.turn.remove(name)
                self.turn.append(name)
                return packs[name][0].data
        return None

"""Finds the learner that kills the workers of its group."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

MAX_WORKER_RESTARTS = 2  # of the workers of a single learner, until it is to blame


@dataclass
# docs/architecture.md#fault-isolation-by-halving
class FaultIsolation:
    """Count the deaths of one group's workers, and halve its learners until one is to blame.

    The first death counts as an accident. From the second on, with no epoch between, the learners that trained are
    suspects. Half of the suspects wait outside while the others train: an epoch clears those that trained, a death
    clears those outside. The last suspect is to blame when its workers die once more.

    Attributes:
        deaths: of the group's workers since an epoch ended.
        suspects: the learners of which one kills the workers.
    """

    deaths: int = 0
    suspects: list[str] = field(default_factory=list)

    def on_restart(self, members: Sequence[str]) -> str | None:
        """Record that fresh workers came up. Return the learner to blame, if it is certain.

        Args:
            members: learners of the workers before; they died if there are any.
        """
        if not members:
            return None
        self.deaths += 1
        suspected = [key for key in members if key in self.suspects] or list(members)
        if len(suspected) == 1 and (self.suspects or self.deaths > MAX_WORKER_RESTARTS):
            self.deaths = 0
            self.forget(suspected[0])
            return suspected[0]
        if self.suspects or self.deaths > 1:
            self.suspects = suspected
        return None

    def on_epoch(self, trained: Collection[str]) -> None:
        """Record an epoch without a death: the learners that trained are innocent."""
        self.deaths = 0
        self.suspects = [key for key in self.suspects if key not in trained]

    def on_explained_death(self) -> None:
        """Record that the workers will start again for a cause that is known, so that it is not counted."""
        self.deaths = -1

    def held_back(self, key: str) -> bool:
        """Return whether a learner waits outside while the other half of the suspects trains."""
        return key in self.suspects[max(1, len(self.suspects) // 2) :]

    def forget(self, key: str) -> None:
        """Drop a learner that left the sweep or starts again."""
        self.suspects = [suspect for suspect in self.suspects if suspect != key]

"""The trials that joined the broker: who waits for a group, who left, and the results for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from raydistill.config import DataConfig
from raydistill.training.messages import EpochResult, JoinRequest


def _ignore() -> None:
    """Do nothing."""


@dataclass(eq=False)
class JoinedTrial:
    """One trial, from when it joins until it leaves or joins again.

    Attributes:
        request: what a worker needs to train it.
        joined_at_s: when it joined, by the broker's clock.
        group: the name of the group that holds it, or None.
        wants_epoch: it has asked for an epoch and has no result of it yet.
        leaving: it wants no more epochs.
        results: delivered, and not yet taken by the trial.
        on_result: called after each delivery.
    """

    request: JoinRequest
    joined_at_s: float
    group: str | None = None
    wants_epoch: bool = False
    leaving: bool = False
    results: deque[EpochResult] = field(default_factory=deque)
    on_result: Callable[[], None] = _ignore

    @property
    def key(self) -> str:
        return self.request.key

    @property
    def data(self) -> DataConfig:
        """The data settings; only trials of equal ones share a pack."""
        return self.request.spec.data

    @property
    def learners(self) -> int:
        """Number of learners that it has in a pack, one for each seed."""
        return self.request.seeds

    @property
    def waits(self) -> bool:
        """True while it wants an epoch and no group holds it."""
        return self.group is None and self.wants_epoch and not self.leaving

    def send(self, result: EpochResult) -> None:
        """Put a result where the trial takes it from."""
        self.results.append(result)
        self.on_result()

    def deliver(self, result: EpochResult) -> None:
        """Send the result of the epoch that the trial asked for."""
        self.wants_epoch = False
        last = max(result.epoch, self.request.last_delivered_epoch or 0)
        self.request = replace(self.request, last_delivered_epoch=last)
        self.send(result)


class TrialRegistry:
    """Hold the trials of a sweep that have joined and not left, in the order in which they joined."""

    def __init__(self) -> None:
        self._trials: dict[str, JoinedTrial] = {}

    def join(self, request: JoinRequest, now_s: float) -> JoinedTrial:
        """Add a trial. It replaces an earlier life of the same trial, and is then the last in the order."""
        self.forget(request.key)
        trial = self._trials[request.key] = JoinedTrial(request, now_s)
        return trial

    def get(self, key: str) -> JoinedTrial | None:
        return self._trials.get(key)

    def forget(self, key: str) -> None:
        self._trials.pop(key, None)

    def waiting(self) -> list[JoinedTrial]:
        """Return the trials that want an epoch and have no group, in the order in which they joined."""
        return [trial for trial in self._trials.values() if trial.waits]

    def staying(self) -> list[JoinedTrial]:
        """Return the trials that are not about to leave."""
        return [trial for trial in self._trials.values() if not trial.leaving]

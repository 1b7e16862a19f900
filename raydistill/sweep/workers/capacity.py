"""Capacity of a pack: as many learners as memory holds, while one more still shares something."""

from __future__ import annotations

from dataclasses import dataclass, field

from raydistill.training.messages import EpochStats

INITIAL_LEARNERS, MAX_LEARNERS = 4, 64
MAX_MEMORY_FRACTION = 0.85
MIN_SHARED_FRACTION = 0.05


# docs/architecture.md#measured-capacity
@dataclass
class CapacityController:
    """The capacity of one pack: `fixed` as the user said, or growing up to `most` with what is measured.

    It doubles while it is full, memory would hold twice the learners, and the work that they share (images,
    teachers) is still more than `MIN_SHARED_FRACTION` of the epoch: with less, a wider pack makes its trials slower and
    the sweep no faster. After memory has run out it never grows again. As long as it grows it is a multiple of `unit`,
    the learners of one trial, so that a pack can be full.
    """

    fixed: int | None = None
    most: int = MAX_LEARNERS
    unit: int = 1
    capacity: int = 0
    _memory: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.most = max(self.most // self.unit, 1) * self.unit
        initial = max(INITIAL_LEARNERS // self.unit, 1) * self.unit
        self.capacity = self.fixed if self.fixed is not None else min(initial, self.most)
        self._settled = self.fixed is not None

    def observe(self, load: EpochStats) -> None:
        """An epoch went well with this load."""
        if self._settled:
            return
        self._memory[load.learners] = max(load.memory, self._memory.get(load.learners, 0.0))
        wanted = min(self.capacity * 2, self.most)
        if load.learners < self.capacity or wanted <= self.capacity:
            return
        if (
            self._predicted(wanted) <= MAX_MEMORY_FRACTION
            and 1 - load.own_seconds / max(load.seconds, 1e-9) > MIN_SHARED_FRACTION
        ):
            self.capacity = wanted
        else:
            self._settled = True

    def on_oom(self, learners: int) -> None:
        """Memory ran out: from now on so many at most, and one at least."""
        self.capacity = max(1, min(self.capacity, learners))
        self._settled = True

    def _predicted(self, learners: int) -> float:
        """The share of memory in use with so many; by proportion while only one size is known."""
        few, many = min(self._memory), max(self._memory)
        if few == many:
            return self._memory[many] * learners / many
        slope = max(self._memory[many] - self._memory[few], 0.0) / (many - few)
        return self._memory[many] + slope * (learners - many)

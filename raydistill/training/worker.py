"""One worker of a group: does what it is told at every epoch boundary. Knows no Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from raydistill.artifacts.store import Store
from raydistill.config import DataConfig
from raydistill.data.sources import Dataset, load_dataset
from raydistill.training.distributed import Workers
from raydistill.training.failures import LearnerError, write_traceback
from raydistill.training.messages import Directive, EpochResult, EpochStats, data_key
from raydistill.training.pack import Evaluate, Pack
from raydistill.training.teachers import LoadedTeachers


# docs/architecture.md#ray-free-worker-loop
class Control(Protocol):
    """Decisions about a group, asked for at every epoch boundary with the results of the epoch before."""

    def boundary(self, reports: list[EpochResult], load: EpochStats | None) -> Directive: ...

    def started(self) -> None:
        """Told by every worker when the group has its first directives."""

    def tick(self, share: float) -> None:
        """Told after every step what share of the epoch is done; must return at once."""

    def failed(self, reports: list[EpochResult]) -> None:
        """Told by any worker of several, just before the group falls, which learners it fell over."""


def serve(
    control: Control,
    *,
    evaluate: Evaluate,
    device: torch.device | str = "cpu",
    workers: Workers | None = None,
    store: Store | None = None,
    load: Callable[[DataConfig], Dataset] = load_dataset,
) -> None:
    """Train packs, one for each data setting, epoch by epoch as `control` directs, until it closes.

    Every worker of the group calls this; worker 0 asks `control`.

    Args:
        control: decides.
        evaluate: scores learners.
        device: where this worker trains.
        workers: of the group; None: this one alone.
        store: of teachers, banks and labels.
        load: reads the images.

    Raises:
        LearnerError: a learner failed on one of several workers.
        RuntimeError: another worker is gone.
    """
    group = _PackSet(evaluate, device, workers or Workers(), store, load)
    reports: list[EpochResult] = []
    measured: EpochStats | None = None
    while True:
        first = group.workers.rank == 0
        directive = group.workers.broadcast(control.boundary(reports, measured) if first else Directive())
        control.started()
        if directive.close:
            return
        try:
            reports = group.change(directive)
            # A learner with a result waits until the result is delivered to its trial.
            measured = None
            if not reports and directive.data is not None:
                reports, measured = group.train(directive.data, control.tick if first else lambda share: None)
        except LearnerError as failure:
            control.failed(list(failure.reports))
            raise


# docs/architecture.md#groups-and-packs
class _PackSet:
    """The packs of one worker, and what they share: images and teachers."""

    def __init__(
        self,
        evaluate: Evaluate,
        device: torch.device | str,
        workers: Workers,
        store: Store | None,
        load: Callable[[DataConfig], Dataset],
    ) -> None:
        self.evaluate, self.device, self.workers, self.store, self.load = evaluate, device, workers, store, load
        self.packs: dict[str, Pack] = {}
        self.datasets: dict[str, Dataset] = {}
        self.teachers: LoadedTeachers = {}

    def change(self, directive: Directive) -> list[EpochResult]:
        """Drop and take in learners; a pack without any ends."""
        for pack in self.packs.values():
            for key in directive.stop:
                pack.remove(key)
        reports = []
        for request in directive.start:
            try:
                report = self._pack(request.spec.data).add(request)
            except (ValueError, OSError) as error:
                report = EpochResult(request.key, error=str(error))
                write_traceback(request.directory, error)
                self._all_or_none([report], error)
            if report is not None:
                reports.append(report)
        self.packs = {name: pack for name, pack in self.packs.items() if pack.members}
        return reports

    def train(self, data: DataConfig, tick: Callable[[float], None]) -> tuple[list[EpochResult], EpochStats | None]:
        """One epoch of the pack on `data`; images that cannot be read end all its learners."""
        pack = self.packs.get(data_key(data))
        if pack is None:
            return [], None
        try:
            return pack.run_epoch(tick), pack.load
        except (ValueError, OSError) as error:
            reports = [EpochResult(key, error=str(error)) for key in pack.members]
            for member in pack.members.values():
                write_traceback(member.directory, error)
            self._all_or_none(reports, error)
            del self.packs[data_key(data)]
            return reports, None

    def _all_or_none(self, failed: list[EpochResult], error: Exception) -> None:
        """Fail these learners on all workers: what one worker cannot read another may."""
        if self.workers.lost(error):
            raise error
        if self.workers.world > 1:
            raise LearnerError(*failed)

    def _pack(self, data: DataConfig) -> Pack:
        name = data_key(data)
        if name not in self.packs:
            self.packs[name] = Pack(
                self._dataset(data),
                data,
                evaluate=self.evaluate,
                device=self.device,
                workers=self.workers,
                store=self.store,
                teachers=self.teachers,
            )
        return self.packs[name]

    def _dataset(self, settings: DataConfig) -> Dataset:
        """The images, decoded once per worker whatever the batch size or the order."""
        same = settings.model_copy(update={"batch_size": 2, "stream_seed": 0, "fixed_views": None})
        name = data_key(same)
        if name not in self.datasets:
            self.datasets[name] = self.load(settings)
        return self.datasets[name]

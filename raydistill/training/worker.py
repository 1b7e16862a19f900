"""One worker of a pack: does what it is told at every epoch boundary. Knows no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from raydistill.artifacts.store import Store
from raydistill.config import Data
from raydistill.data.sources import Dataset, load_dataset
from raydistill.training.distributed import Workers
from raydistill.training.pack import Assignment, Evaluate, Pack, Report


@dataclass(frozen=True)
class Orders:
    """What a pack does next: drop `stop`, take `start` in, train one epoch on `data`; or `close`."""

    data: dict[str, Any] | None = None
    start: list[Assignment] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    close: bool = False


class Control(Protocol):
    """Who decides, asked at every epoch boundary with the reports of the epoch before."""

    def boundary(self, reports: list[Report]) -> Orders: ...

    def tick(self, share: float) -> None:
        """Told after every step what share of the epoch is done; must return at once."""


def serve(
    control: Control,
    *,
    evaluate: Evaluate,
    device: torch.device | str = "cpu",
    workers: Workers | None = None,
    store: Store | None = None,
    load: Callable[[Data], Dataset] = load_dataset,
) -> None:
    """Run packs until told to close. Every worker of the group calls this; worker 0 asks `control`."""
    workers = workers or Workers()
    pack: Pack | None = None
    data: dict[str, Any] | None = None
    datasets: dict[str, Dataset] = {}
    reports: list[Report] = []
    while True:
        orders = workers.broadcast(control.boundary(reports) if workers.rank == 0 else Orders())
        if orders.close:
            return
        reports = []
        if orders.data != data:
            pack, data = None, orders.data
        for key in orders.stop:
            if pack is not None:
                pack.remove(key)
        for assignment in orders.start:
            try:
                if pack is None:
                    settings = Data.model_validate(data)
                    dataset = _cached(settings, datasets, load)
                    pack = Pack(dataset, settings, evaluate=evaluate, device=device, workers=workers, store=store)
            except (ValueError, OSError) as error:
                reports.append(Report(assignment.key, error=str(error)))
                continue
            report = pack.add(assignment)
            if report is not None:
                reports.append(report)
        if pack is not None and pack.learners:
            try:
                reports += pack.run_epoch(control.tick if workers.rank == 0 else lambda share: None)
            except (ValueError, OSError) as error:
                reports += [Report(key, error=str(error)) for key in pack.learners]
                pack = None
                data = None


def _cached(settings: Data, datasets: dict[str, Dataset], load: Callable[[Data], Dataset]) -> Dataset:
    """The images, decoded once per worker whatever the batch size or the order."""
    key = settings.model_copy(update={"batch_size": 2, "stream_seed": 0, "fixed_views": None}).model_dump_json()
    if key not in datasets:
        datasets[key] = load(settings)
    return datasets[key]

"""A pack: learners that train side by side on one stream. A single run is a pack of one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raydistill import config as configuration
from raydistill.artifacts.store import Store
from raydistill.config import Config, Data
from raydistill.data.augment import normalization
from raydistill.data.sources import Dataset
from raydistill.data.stream import Stream
from raydistill.methods import Method
from raydistill.training.checkpoints import latest_checkpoint, to_device, write_checkpoint
from raydistill.training.distributed import Workers
from raydistill.training.learner import Learner
from raydistill.training.supplies import Supplies

log = logging.getLogger(__name__)

Evaluate = Callable[[Mapping[str, nn.Module], Dataset, Config, torch.device], dict[str, float]]


@dataclass(frozen=True)
class Assignment:
    """A learner for a pack: its key, its configuration, and the directory of its checkpoints."""

    key: str
    config: dict[str, Any]
    directory: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of one epoch of one learner. `error` is empty when it went well."""

    key: str
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    done: bool = False
    error: str = ""


class Pack:
    """Runs learners over the stream of one data setting; a failure ends that learner alone.

    Args:
        dataset: the images of `data`.
        evaluate: scores a learner's encoders; returns metrics, finite numbers.
        device: of every learner and batch.
        workers: the process group.
        store: where teachers, teacher banks and labels are kept.
        prefetch: batches prepared ahead in a thread. None: two beside a GPU, none on a CPU, where training
            has all cores, a third thread gained nothing, and now and then stalled its barriers for seconds.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: Data,
        *,
        evaluate: Evaluate,
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
        store: Store | None = None,
        prefetch: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self.workers = workers or Workers()
        self.evaluate = evaluate
        self.learners: dict[str, Learner] = {}
        self._directories: dict[str, Path | None] = {}
        self._next_epoch = 0
        self.stream = Stream(
            dataset.train,
            size=dataset.image_size,
            batch_size=data.batch_size,
            seed=data.stream_seed,
            normalize=normalization(dataset.name, dataset.image_size),
            device=device,
            rank=self.workers.rank,
            world=self.workers.world,
            prefetch=self._prefetch() if prefetch is None else prefetch,
            fixed_views=data.fixed_views,
        )
        self.supplies = Supplies(store, dataset, data, device=self.device, workers=self.workers)

    def _prefetch(self) -> int:
        return 2 if self.device.type == "cuda" else 0

    def add(self, assignment: Assignment) -> Report | None:
        """Take a learner in, from its newest checkpoint if it has one.

        Returns: a report if it was already done or cannot be built, else None.
        """
        try:
            learner = self._build(assignment)
        except Exception as error:
            log.debug("learner %s cannot start", assignment.key, exc_info=True)
            return Report(assignment.key, error=_cause(error))
        if learner.done:
            return Report(assignment.key, learner.epoch, learner.metrics, done=True)
        wanted = learner.stream_epoch(learner.epoch)
        if wanted is not None:
            self._next_epoch = min(self._next_epoch, wanted) if self.learners else wanted
        self.learners[assignment.key] = learner
        self._directories[assignment.key] = Path(assignment.directory) if assignment.directory else None
        return None

    def remove(self, key: str) -> None:
        self.learners.pop(key, None)
        self._directories.pop(key, None)

    def run_epoch(self, on_step: Callable[[float], None] = lambda share: None) -> list[Report]:
        """One epoch of the stream for every learner that is due; one report each.

        `on_step` is told after every step what share of the epoch's steps is done.
        """
        epoch = self._next_epoch
        due = {key: learner for key, learner in self.learners.items() if self._is_due(learner, epoch)}
        self._next_epoch += 1
        reports = self._train(due, epoch, on_step)
        reports += [self._finish(key, learner) for key, learner in due.items() if key in self.learners]
        for report in reports:
            if report.done or report.error:
                self.remove(report.key)
        return reports

    def _build(self, assignment: Assignment) -> Learner:
        config = configuration.load(assignment.config)
        learner = Learner(
            config, self.supplies.supply(config), steps_per_epoch=self.stream.steps_per_epoch,
            device=self.device, workers=self.workers,
        )  # fmt: skip
        learner.offsets = [pair for pair in config.train.offsets if pair != (0, 0)]
        state = latest_checkpoint(Path(assignment.directory)) if assignment.directory else None
        if state is not None:
            learner.load_state_dict(to_device(state, self.device))
        return learner

    def _is_due(self, learner: Learner, epoch: int) -> bool:
        """A learner resumed one epoch ahead of its neighbours waits; any other takes what comes."""
        wanted = learner.stream_epoch(learner.epoch)
        return wanted is None or wanted - epoch != 1

    def _train(self, due: dict[str, Learner], epoch: int, on_step: Callable[[float], None]) -> list[Report]:
        reports: list[Report] = []
        for learner in due.values():
            learner.see(epoch)
            learner.start_epoch()
        self._seconds = dict.fromkeys(due, 0.0)
        views = dict.fromkeys(view for learner in due.values() for view in learner.method.views)
        started = time.perf_counter()
        for number, (drawn, indices) in enumerate(self.stream.epoch(epoch, views), 1):
            step = self.supplies.step(drawn, indices, epoch)
            for key, learner in list(due.items()):
                began = time.perf_counter()
                try:
                    learner.train_step(learner.batch(step))
                except Exception as error:
                    log.debug("learner %s failed", key, exc_info=True)
                    reports.append(Report(key, learner.epoch, error=_cause(error)))
                    del due[key]
                self._seconds[key] += time.perf_counter() - began
            on_step(number / self.stream.steps_per_epoch)
            if not due:
                break
        self._wall = time.perf_counter() - started
        return reports

    def _finish(self, key: str, learner: Learner) -> Report:
        try:
            metrics = learner.finish_epoch()
            metrics |= self._speed(key)
            if learner.done or learner.epoch % learner.config.eval.every == 0:
                if self.workers.rank == 0:
                    encoders = scored_encoders(learner.method, learner.config.eval.encoders)
                    metrics |= self.evaluate(encoders, self.dataset, learner.config, self.device)
                metrics = self.workers.broadcast(metrics)
            metrics["bad_images"] = float(self.dataset.train.bad)
            learner.metrics = metrics
            directory = self._directories[key]
            if directory is not None and self.workers.rank == 0:
                write_checkpoint(directory, learner.epoch, learner.state_dict())
        except Exception as error:
            log.debug("learner %s failed", key, exc_info=True)
            return Report(key, learner.epoch, error=_cause(error))
        return Report(key, learner.epoch, metrics, done=learner.done)

    def _speed(self, key: str) -> dict[str, float]:
        images = self.stream.steps_per_epoch * self.stream.batch_size
        return {
            "images_per_second": images / max(self._wall, 1e-9),
            "step_seconds": self._seconds[key] / self.stream.steps_per_epoch,
            "pack_learners": float(len(self._seconds)),
        }


def scored_encoders(method: Method, which: str) -> dict[str, nn.Module]:
    """The student's encoder, or with `all` every one of the method's."""
    encoders = method.encoders()
    return encoders if which == "all" else {"student": encoders["student"]}


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {text}"

"""Contract of a task, and the list of all tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from raydistill.config import Config
from raydistill.data.sources import Dataset, load_dataset
from raydistill.errors import RaydistillError, one_line
from raydistill.evaluation.tasks.names import TASKS, Task, parse
from raydistill.evaluation.teacher_features import trainable
from raydistill.training.memory import lost_device, release

log = logging.getLogger(__name__)


class TaskError(RaydistillError, ValueError):
    """A task cannot score this network, or cannot read its data; the message names what is missing."""


@dataclass(frozen=True)
class Subject:
    """A network under evaluation, and the images that it is scored on.

    Args:
        encoder: images (N, 3, S, S) -> (N, D), in eval mode, on `device`. A task leaves it as it is.
        dataset: the images of the run, opened.
        config: its evaluation settings (`eval`), seeds (`train.seed`) and splits (`data`).
        device: where the encoder is.
        teachers: frozen networks (N, 3, S, S) -> (N, D) that the encoder learned from, on `device`.
        source: images of the task's own, as typed behind its name; empty for those of the run.
        folder: where the task may draw images of its own (`toy`).
    """

    encoder: nn.Module
    dataset: Dataset
    config: Config
    device: torch.device
    teachers: Sequence[nn.Module] = ()
    source: str = ""
    folder: Path | None = None

    def images(self) -> Dataset:
        """The images to score on: the task's own, at the size of the run's, or those of the run.

        Raises: DataError.
        """
        if not self.source:
            return self.dataset
        data = {"source": self.source, "labelled": None, "limit": None, "image_size": self.dataset.image_size}
        return load_dataset(self.config.data.model_copy(update=data))


@dataclass(frozen=True)
class Findings:
    """Findings of a task: scores by metric, accuracies between 0 and 1, and pictures (PNG) by name.

    Of several tasks also `left_out`: why those failed that did.
    """

    scores: dict[str, float]
    pictures: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def run_tasks(subject: Subject, *, trained: bool = True) -> Findings:
    """Run all of `eval.tasks` on a network, one after the other. A task that cannot be run is left out, with a warning.

    Args:
        subject: the network and its images.
        trained: False for references without weights, and for teachers: tasks that train the network are left out.
    """
    found: list[tuple[str, Findings]] = []
    left_out: dict[str, str] = {}
    for text in subject.config.eval.tasks:
        name, source = parse(text)
        task = TASKS[name]
        if not _can(task, subject, trained=trained):
            continue
        module = import_module(f"raydistill.evaluation.tasks.{task.module}")
        try:
            found.append((name, module.score(replace(subject, source=source, encoder=_fit(task, subject.encoder)))))
        except Exception as error:  # whatever a library raises: the other scores do not depend on it
            if lost_device(error):
                raise
            release(error, subject.device)
            left_out[text] = one_line(error)
            log.warning("task %s is left out: %s", text, left_out[text])
    asked = [parse(text)[0] for text in subject.config.eval.tasks]
    scores = {metric: value for _, each in found for metric, value in each.scores.items()}
    for task_name in dict.fromkeys(asked):
        own = [each.scores for name, each in found if name == task_name]
        if 1 < len(own) == asked.count(task_name):  # of fewer it would be another mean
            scores |= _means(own)
    return Findings(scores, {name: png for _, each in found for name, png in each.pictures.items()}, left_out)


def _can(task: Task, subject: Subject, *, trained: bool) -> bool:
    """Return whether the network and its images have what the task needs."""
    if task.labels and not subject.source and subject.dataset.bank.labels is None:
        return False
    if task.needs == "features":
        return True
    if task.needs == "maps":
        return hasattr(subject.encoder, "maps")
    return trained and (task.needs == "weights" or bool(subject.teachers))


def _fit(task: Task, encoder: nn.Module) -> nn.Module:
    """The network as a task takes it: a frozen one is thawed for a task that trains it."""
    return trainable(encoder) if task.needs in ("weights", "teachers") else encoder


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over the data sets of a task: `test_probe_transfer` of `test_probe_on_a`, `_on_b`, ..."""
    groups: dict[str, list[float]] = {}
    for name, value in ((name, value) for scores in found for name, value in scores.items()):
        metric, on, _ = name.partition("_on_")
        if on:
            groups.setdefault(f"{metric}_transfer", []).append(value)
    return {name: sum(values) / len(values) for name, values in groups.items() if len(values) == len(found)}

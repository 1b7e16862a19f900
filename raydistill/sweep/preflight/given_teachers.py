"""Words on teachers that were given: the normalisation that they see, and whether they know the images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from raydistill.artifacts import teachers
from raydistill.artifacts.sources import PREFIX
from raydistill.artifacts.store import Store
from raydistill.data.drawing import limited
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.evaluation.knn import knn_predictions
from raydistill.sweep.preflight.teachers import required_teachers
from raydistill.sweep.settings import SweepSettings

BANK, QUERIES, LEAST = 384, 192, 64
NEIGHBOURS = 5
LONGEST_S = 20.0
_BATCH = 32
_DEVIATIONS = 2.5


def describe_given_teachers(settings: SweepSettings, store: Store, dataset: Dataset) -> Iterator[str]:
    """Say of each given teacher how its images are normalised, and what its k-NN is worth on a sample of the images.

    A k-NN that is worse than that of an untrained network, or clearly better with another normalisation, is a warning:
    the checkpoint was read wrongly then.

    Args:
        settings: of the sweep.
        store: where teachers are.
        dataset: its images.
    """
    if settings.base.method.teacher_output() is None:
        return
    sources = {source: None for config in required_teachers(settings) for source in config.teacher.sources}
    for source in sources:
        key = source.removeprefix(PREFIX)
        if source.startswith(PREFIX) and store.by_key("teacher", key) is not None:
            yield from _describe(settings.teachers.get(source, source), store, key, dataset)


def _describe(called: str, store: Store, key: str, dataset: Dataset) -> Iterator[str]:
    shown = normalization(dataset.name, dataset.image_size)
    teacher = teachers.load(store, key, shown, torch.device("cpu"))  # the workers need the memory of the GPUs
    yield f"teacher {called}: {teacher.backbone.name}, sees images by {teachers.name_normalization(teacher.own)}"
    sample = _Sample.of(dataset, teacher)
    if sample is None:
        return
    own, untrained = sample.hits(teacher), sample.hits(teachers.untrained_like(teacher))
    said = f"teacher {called}: k-NN {_percent(own)}, untrained {_percent(untrained)}, of {len(own)} images"
    if _clearly_better(untrained, own):
        yield f"warning: {said}: worse than untrained; perhaps it was read wrongly, see `teacher.format`"
    else:
        yield said
    for name, other in teachers.seeing_otherwise(teacher).items():
        if _clearly_better(hits := sample.hits(other), own):
            yield (
                f"warning: teacher {called}: k-NN {_percent(hits)} by {name}, which is clearly better: it was "
                "perhaps trained so, see `teacher.format`"
            )


class _Sample:
    """Labelled images to learn from and to ask about, as the student sees them in evaluation."""

    def __init__(self, dataset: Dataset, bank: int, queries: int) -> None:
        self.size, self.shown = dataset.image_size, normalization(dataset.name, dataset.image_size)
        self.bank, self.bank_labels = self._drawn(dataset.bank, bank)
        self.queries, self.labels = self._drawn(dataset.val, queries)

    @classmethod
    def of(cls, dataset: Dataset, teacher: nn.Module) -> _Sample | None:
        """Draw as many images as the time allows; None without labels, or where it is too short even for a few."""
        if dataset.bank.labels is None or dataset.val.labels is None:
            return None
        few = cls(dataset, 8, 8)
        few.hits(teacher)
        began = time.perf_counter()
        few.hits(teacher)
        share = LONGEST_S / ((time.perf_counter() - began) / 16 * 4 * (BANK + QUERIES))
        bank, queries = (int(min(1.0, share) * most) for most in (BANK, QUERIES))
        return cls(dataset, bank, queries) if queries >= LEAST else None

    def _drawn(self, images: Images, count: int) -> tuple[Images, Tensor]:
        assert images.labels is not None
        rows = (images.labels >= 0).nonzero()[:, 0]
        chosen = rows[limited(images.labels[rows], len(rows), (0, 3), count)]
        return images.subset(chosen), images.labels[chosen]

    def hits(self, teacher: nn.Module) -> Tensor:
        """(M,) whether the nearest neighbours of each image have its class."""
        bank, queries = (self._features(images, teacher) for images in (self.bank, self.queries))
        found = knn_predictions(bank, self.bank_labels, queries, ks=(min(NEIGHBOURS, len(bank)),))
        return next(iter(found.values())) == self.labels

    def _features(self, images: Images, teacher: nn.Module) -> Tensor:
        device = next(teacher.buffers()).device
        rows = []
        for start in range(0, len(images), _BATCH):
            pixels = [images.peek(index) for index in range(start, min(start + _BATCH, len(images)))]
            views = evaluate_view(pixels, size=self.size, normalize=self.shown, device=device)
            rows.append(teacher(views, "features").cpu())
        return torch.cat(rows)


def _clearly_better(hits: Tensor, others: Tensor) -> bool:
    """Return whether one of two networks is right on more of the same images, by more than chance (a sign test)."""
    wins, losses = int((hits & ~others).sum()), int((others & ~hits).sum())
    return wins - losses > _DEVIATIONS * math.sqrt(wins + losses)


def _percent(hits: Tensor) -> str:
    return f"{100 * hits.float().mean():.0f} %"

"""The score that a sweep sees while it trains: k-NN on the validation split, never on test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from raydistill.config import Config
from raydistill.data.augment import View, augment, evaluate_view, normalization
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.evaluation.features import embed
from raydistill.evaluation.knn import instance_accuracy, knn_accuracy

BATCH = 512
INSTANCE_VIEWS = (View("rrcflip", 1_000_000), View("rrcflip", 1_000_001))


def evaluate(
    encoders: Mapping[str, nn.Module], dataset: Dataset, config: Config, device: torch.device
) -> dict[str, float]:
    """Scores of a learner's encoders.

    With labels `val_knn`: accuracy of validation images by the training images, averaged over `eval.ks`.
    Without labels `val_instance`: how often a crop of a validation image finds the other crop of it among
    all of them. The student's scores have no suffix, the others' end in the encoder's name.
    """
    metrics: dict[str, float] = {}
    for name, encoder in encoders.items():
        suffix = "" if name == "student" else f"_{name}"
        if dataset.train.labels is not None and dataset.val.labels is not None:
            bank = range(min(len(dataset.train), config.eval.bank_images or len(dataset.train)))
            train, train_labels = embed_split(encoder, dataset, dataset.train, device, bank)
            val, val_labels = embed_split(encoder, dataset, dataset.val, device)
            scores = knn_accuracy(train, train_labels, val, val_labels, ks=config.eval.ks)
            metrics[f"val_knn{suffix}"] = sum(scores.values()) / len(scores)
        else:
            views = (embed(encoder, _crops(dataset, view, device), device) for view in INSTANCE_VIEWS)
            metrics[f"val_instance{suffix}"] = instance_accuracy(*views)
    return metrics


def embed_split(
    encoder: nn.Module, dataset: Dataset, split: Images, device: torch.device, indices: range | None = None
) -> tuple[Tensor, Tensor]:
    """Features (N, D) of a split without augmentation, and labels (N,); -1 where there are none."""
    used: list[Tensor] = []
    normalize = normalization(dataset.name, dataset.image_size)

    def batches() -> Iterator[Tensor]:
        for images, kept in _chunks(split, indices or range(len(split))):
            used.append(kept)
            yield evaluate_view(images, size=dataset.image_size, normalize=normalize, device=device)

    features = embed(encoder, batches(), device)
    rows = torch.cat(used)
    labels = split.labels[rows] if split.labels is not None else torch.full((len(rows),), -1)
    return features, labels


def _chunks(split: Images, indices: range) -> Iterator[tuple[list[Tensor] | Tensor, Tensor]]:
    for start in range(0, len(indices), BATCH):
        yield split.fetch(list(indices[start : start + BATCH]))


def _crops(dataset: Dataset, view: View, device: torch.device) -> Iterator[Tensor]:
    normalize = normalization(dataset.name, dataset.image_size)
    for images, kept in _chunks(dataset.val, range(len(dataset.val))):
        yield augment(images, kept, view, size=dataset.image_size, seed=0, epoch=0,
                      normalize=normalize, device=device)  # fmt: skip

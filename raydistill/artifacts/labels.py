"""The classes that SSSD and its like train on: clusters of a teacher's features, or a control."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raydistill.artifacts.clusters import cluster, prototypes, random_labels
from raydistill.artifacts.store import ArtifactError, Store
from raydistill.options import LabelSource

FILE = "labels.safetensors"


def open_labels(
    store: Store, source: LabelSource, made_of: dict[str, Any], features: Callable[[], Tensor], images: int
) -> Tensor:
    """(N,) int64, the class of each training image; made first if there are none.

    Args:
        made_of: the teacher and the images.
        features: gives the teacher's (N, D) features of the plain images; asked only where they are needed.

    Raises: ValueError for more clusters than images; ArtifactError if the storage refuses.
    """

    def make(folder: Path) -> None:
        save_file({"labels": _assign(source, features, images)}, folder / FILE)

    folder = store.get("labels", {"source": source.model_dump(), **made_of}, make)
    try:
        return load_file(folder / FILE)["labels"]
    except Exception as error:
        raise ArtifactError(f"{folder / FILE} is damaged ({error}); remove it with `raydistill artifacts`") from None


def _assign(source: LabelSource, features: Callable[[], Tensor], images: int) -> Tensor:
    if source.kind == "random":
        return random_labels(images, source.clusters, seed=source.seed)
    if source.kind == "prototypes":
        return prototypes(features(), source.clusters, seed=source.seed)
    return cluster(features(), source.clusters, iterations=source.iterations, seed=source.seed)


def class_counts(labels: Tensor, classes: int) -> tuple[int, ...]:
    """Images per class."""
    return tuple(torch.bincount(labels, minlength=classes).tolist())

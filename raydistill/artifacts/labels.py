"""The classes that SSSD and its like train on: clusters of a teacher's features, or a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raydistill.artifacts.clusters import cluster, prototypes, random_labels
from raydistill.artifacts.store import ArtifactError, Store, key_of
from raydistill.data.images import Images
from raydistill.options import LabelSource
from raydistill.redaction import redact

FILE = "labels.safetensors"


def labels_provenance(source: LabelSource, images: dict[str, Any], teachers: Sequence[str]) -> dict[str, Any]:
    """Return everything that tells one set of pseudo labels from another.

    Args:
        source: kind and number of classes.
        images: identity of the images.
        teachers: keys of the teachers; the first one makes the labels.
    """
    return {"source": source.model_dump(), "images": images, "teacher": teachers[0] if teachers else None}


def labels_key(source: LabelSource, images: dict[str, Any], teachers: Sequence[str]) -> str:
    """Return the key of pseudo labels in the store.

    Args:
        source: kind and number of classes.
        images: identity of the images.
        teachers: keys of the teachers; the first one makes the labels.
    """
    return key_of("labels", labels_provenance(source, images, teachers))


def open_labels(
    store: Store,
    key: str,
    provenance: Callable[[], dict[str, Any]],
    source: LabelSource,
    features: Callable[[], Tensor],
    images: int,
) -> Tensor:
    """Open the class (N,) int64 of each training image; make them first if there are none.

    Args:
        store: where labels are.
        key: of the labels.
        provenance: gives their provenance; asked only where they are made.
        source: kind and number of classes.
        features: gives the teacher's (N, D) features of the plain images; asked only where they are needed.
        images: N.

    Raises:
        ValueError: more clusters than images.
        ArtifactError: the storage refuses.
    """

    def make(folder: Path) -> None:
        save_file({"labels": _assign(source, features, images)}, folder / FILE)

    folder = store.by_key("labels", key)
    if folder is None:
        here = provenance()
        if key_of("labels", here) != key:
            raise ArtifactError(f"labels {key} are not in {store.shown}, and were planned for other images than these")
        folder = store.get("labels", here, make)
    try:
        labels = load_file(folder / FILE)["labels"]
    except Exception as error:
        raise ArtifactError(f"{folder / FILE} is damaged ({error}); remove it with `raydistill artifacts`") from None
    if len(labels) != images:
        raise ArtifactError(f"labels {key} are of {len(labels)} images, and there are {images}")
    return labels


def _assign(source: LabelSource, features: Callable[[], Tensor], images: int) -> Tensor:
    if source.kind == "random":
        return random_labels(images, source.clusters, seed=source.seed)
    if source.kind == "prototypes":
        return prototypes(features(), source.clusters, seed=source.seed)
    return cluster(features(), source.clusters, iterations=source.iterations, seed=source.seed)


def true_labels(images: Images, source: str) -> Tensor:
    """The labels (N,) of training images. Raises ValueError where some, or all, have none; `source` is named."""
    if images.labels is None:
        raise ValueError(f"{redact(source)} has no labels, and this method learns from labels")
    if missing := int((images.labels < 0).sum()):
        raise ValueError(
            f"{redact(source)}: {missing} of {len(images)} training images have no label, and this method learns from "
            "labels"
        )
    return images.labels


def class_counts(labels: Tensor, classes: int) -> tuple[int, ...]:
    """Images per class."""
    return tuple(torch.bincount(labels, minlength=classes).tolist())

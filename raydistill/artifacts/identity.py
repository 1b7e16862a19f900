"""Identity of images: a fingerprint of their content, by which artifacts are told apart."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from raydistill.config import DataConfig
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.options.base import AugmentConfig

SAMPLES = 16
NOT_PART = (
    *("source", "labelled", "root", "download", "cache_gib", "disk_cache_gib"),
    *("batch_size", "stream_seed", "fixed_views", "kind", "split", "resize"),
)
# Settings that version 0.1 did not have, with the value that does what it did.
ADDED: dict[str, dict[str, Any]] = {
    "data": {"kind": "photographs", "labelled": None, "split": "draw", "resize": None, "disk_cache_gib": 0.0},
    "eval": {
        "probe": "dogo",
        "probe_lr": None,
        "knn": "dogo",
        "labels_per_class": None,
        "tasks": [],
        "label_percents": [1, 5, 10, 20, 50, 100],
        "noise_rates": [0, 0.2, 0.4, 0.6, 0.8],
        "tune": "dogo",
        "tune_epochs": None,
        "trajectory": False,
        "detector": "c4",
        "detector_steps": None,
    },
    "method": {
        "zero_init_residual": None,
        "recipe": None,
        "momentum_window": None,
        "lambda_schedule": "constant",
        "normalizer": "none",
    },
    "seed": {"label_seed": 0},  # of this method alone; SSSD has always had one
    "teacher": {"zero_init_residual": None, "augment": None, "epochs_factor": 1.0, "patience": None},
    "train": {"patience": None, "checkpoint_every": 1},
    "augment": dict.fromkeys(AugmentConfig.model_fields),
}
NEW_SECTIONS = ("augment",)


def without_added(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings without those that came after version 0.1 and change nothing, so that keys stay as they were."""
    added = ADDED | {"method": ADDED["method"] | ADDED.get(settings["method"]["name"], {})}
    kept = {
        section: {k: v for k, v in values.items() if k not in added.get(section, {}) or v != added[section][k]}
        for section, values in settings.items()
    }
    return {section: values for section, values in kept.items() if values or section not in NEW_SECTIONS}


def images_identity(dataset: Dataset, data: DataConfig) -> dict[str, Any]:
    """The settings that choose and split the images, and a fingerprint of the training split.

    Labelled images are no part of it, but for those that must not train.
    """
    settings = data.model_dump(mode="json", exclude=set(NOT_PART))
    rows = np.array(dataset.left_out, dtype=np.int64).tobytes()
    left_out = {"left_out": hashlib.sha256(rows).hexdigest()[:32]} if dataset.left_out else {}
    if data.split == "names" and dataset.train.part[0].key is not None:
        settings["split"] = data.split
    if data.resize is not None:
        settings["resize"] = data.resize
    return settings | {"image_size": dataset.image_size, "fingerprint": fingerprint(dataset.train)} | left_out


def contents(dataset: Dataset) -> dict[str, Any]:
    """Number of images of each split, and a digest of their names, lengths and labels; of pixels, without files."""
    digest = hashlib.sha256()
    for split, images in dataset.splits.items():
        digest.update(f"{split} {len(images)}".encode())
        raw, rows = images.part
        if raw.key is None:
            digest.update(fingerprint(images).encode())
            continue
        if images.labels is not None:
            digest.update(images.labels.numpy().tobytes())
        if raw.encoded is not None:
            digest.update(raw.encoded.lengths()[rows].astype(np.int64).tobytes())
        for row in rows.tolist():
            digest.update(raw.key(row).encode("utf-8", "surrogateescape"))
    return {**{split: len(images) for split, images in dataset.splits.items()}, "digest": digest.hexdigest()[:16]}


def fingerprint(images: Images) -> str:
    """SHA-256 of the number of images, their labels, and 16 of the decoded images, evenly spaced."""
    digest = hashlib.sha256(str(len(images)).encode())
    if images.labels is not None:
        digest.update(images.labels.numpy().tobytes())
    chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLES).astype(int))
    for index in chosen.tolist():
        digest.update(images.peek(index).numpy().tobytes())
    return digest.hexdigest()[:32]

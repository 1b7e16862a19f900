"""Frozen teachers: how they get into the store, and how they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from raydistill import config as configuration
from raydistill import methods
from raydistill.artifacts.identity import fingerprint, images_identity, without_added
from raydistill.artifacts.sources import PREFIX as PREFIX
from raydistill.artifacts.store import CARD, ArtifactError, Store
from raydistill.config import Config
from raydistill.data.sources import Dataset
from raydistill.data.views.augment import Normalization, normalization
from raydistill.models.backbones import Backbone
from raydistill.models.layouts import IMAGENET, PLAIN_PIXELS
from raydistill.models.teacher import FrozenTeacher, load_teacher, save_teacher

FILE = "teacher.safetensors"
_USUAL = {"ImageNet's mean and deviation": IMAGENET, "pixels from 0 to 1": PLAIN_PIXELS}


def provenance(recipe: Config, dataset: Dataset) -> dict[str, Any]:
    """Return everything that tells one trained teacher from another."""
    settings = without_added(configuration.dump(recipe))
    data = images_identity(dataset, recipe.data) | {"batch_size": recipe.data.batch_size}
    kind = {} if dataset.kind == "photographs" else {"kind": dataset.kind}  # so that keys of before 0.2 stay
    augment = {"augment": chosen} if (chosen := recipe.augment.chosen()) else {}
    made = {"method": settings["method"], "train": settings["train"], "images": data, **kind, **augment}
    if recipe.train.patience is not None:  # the scores decide on its length
        scores = recipe.eval.model_dump(mode="json", include={"every", "knn", "ks", "bank_images"})
        made["scores"] = scores | {"images": [fingerprint(images) for images in (dataset.bank, dataset.val)]}
    return made


def publish(store: Store, made: dict[str, Any], config: Config, state: dict[str, Any]) -> Path:
    """Store the student of a finished run, with its SSL head, as a teacher.

    Args:
        store: receives it.
        made: its provenance.
        config: of the run.
        state: the run's last checkpoint.

    Raises:
        ValueError: the encoder is no plain backbone.
    """
    given = given_from(state)
    method = methods.build(config.method, given, seed=0)
    method.load_state_dict(state["method"])
    backbone = method.encoders()["student"]
    if not isinstance(backbone, Backbone):
        raise ArtifactError(f"a run of {config.method.name} cannot be a teacher: its encoder is not a plain backbone")
    size = given.image_size
    teacher = FrozenTeacher(backbone, method.head(), normalization("", size), normalization("", size))

    def make(folder: Path) -> None:
        save_teacher(teacher, folder / FILE, provenance={"config": configuration.dump(config)})
        scores = {name: value for name, value in state.get("metrics", {}).items() if name.startswith("val_")}
        (folder / CARD).write_text(json.dumps({"epochs": state.get("epoch", config.train.epochs), **scores}))

    return store.get("teacher", made, make)


def trained_epochs(store: Store, key: str) -> int | None:
    """Return for how many epochs a stored teacher was trained; None where nobody wrote it down.

    Args:
        store: where teachers are.
        key: which one.
    """
    folder = store.by_key("teacher", key)
    if folder is None or not (folder / CARD).exists():
        return None
    return int(json.loads((folder / CARD).read_text())["epochs"])


def given_from(state: dict[str, Any]) -> methods.MethodContext:
    """Return the context that the method of a checkpoint was built for."""
    plain = state["given"]
    return methods.MethodContext(
        plain["image_size"],
        plain["images"],
        tuple(plain["class_counts"]),
        tuple(methods.FeatureDims(*pair) for pair in plain["teachers"]),
        plain.get("levels"),
    )


def load(store: Store, key: str, shown: Normalization, device: torch.device) -> FrozenTeacher:
    """Load a teacher.

    Args:
        store: where teachers are.
        key: which one.
        shown: normalisation of the batches that it will see.
        device: where it runs.

    Raises:
        ArtifactError: there is none.
        TeacherError: the file is damaged.
    """
    folder = store.by_key("teacher", key)
    if folder is None:
        raise ArtifactError(
            f"teacher {key} is not in {store.shown}; start the sweep, or `raydistill train`, to make it"
        )
    return load_teacher(folder / FILE, shown).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def untrained_like(teacher: FrozenTeacher) -> FrozenTeacher:
    """A network of the same shape with fresh weights, on the same device, that sees the batches as they are."""
    network = teacher.backbone
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = Backbone(network.name, stem=network.stem, image_size=network.image_size)
    return FrozenTeacher(fresh, None, teacher.shown, teacher.shown).to(teacher.scale.device)


def seeing_otherwise(teacher: FrozenTeacher) -> dict[str, FrozenTeacher]:
    """The same teacher with each of the other usual normalisations, by its name."""
    return {
        name: FrozenTeacher(teacher.backbone, None, own, teacher.shown).to(teacher.scale.device)
        for name, own in _USUAL.items()
        if name != name_normalization(teacher.own)
    }


def name_normalization(own: Normalization) -> str:
    """Words for a normalisation: a usual one's name, else its numbers."""
    plain = tuple(map(tuple, own))
    mean, std = (", ".join(f"{value:g}" for value in values) for values in own)
    return next((name for name, usual in _USUAL.items() if usual == plain), f"mean {mean} and deviation {std}")

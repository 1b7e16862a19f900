"""Frozen teachers: a backbone, perhaps its SSL head, and the normalisation it was trained with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.errors import RaydistillError
from raydistill.models.backbones import Backbone, resolve_stem

FORMAT = "raydistill-teacher-1"
VERSION = 2  # files of raydistill 0.1 have none
Layer = list[Any]
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


class TeacherError(RaydistillError, ValueError):
    """A teacher file cannot be used; the message names the file."""


class FrozenTeacher(nn.Module):
    """A network that is looked at and never moved: always in eval mode, without gradient.

    Args:
        backbone: its `dim` is the width of `features`.
        head: its SSL head, whose output is `head`; None if it has none.
        own: mean and standard deviation per channel that it was trained with.
        shown: those of the batches that it will see; they are converted where the two differ.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, backbone: Backbone, head: nn.Sequential | None, own: Normalization, shown: Normalization
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.own, self.shown = backbone, head, own, shown
        (own_mean, own_std), (mean, std) = own, shown
        scale = torch.tensor(std) / torch.tensor(own_std)
        shift = (torch.tensor(mean) - torch.tensor(own_mean)) / torch.tensor(own_std)
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        self._same = tuple(map(tuple, own)) == tuple(map(tuple, shown))
        self.requires_grad_(False)
        self.train(False)

    @property
    def widths(self) -> tuple[int, int | None]:
        """Widths of the features, and of the head's output if there is one."""
        linear = [layer for layer in self.head or () if isinstance(layer, nn.Linear)]
        return self.backbone.dim, linear[-1].out_features if linear else None

    @torch.no_grad()
    def forward(self, images: Tensor, output: str) -> Tensor:
        """Images (N, 3, H, W), normalised as shown -> (N, D) float32 of `features` or `head`, without gradient.

        Raises ValueError for `head` without a head.
        """
        if not self._same:
            images = images * self.scale + self.shift
        features = self.backbone(images)
        if output == "features":
            return features.float()
        if self.head is None:
            raise ValueError("the teacher has no head; set method.teacher=features to use its backbone")
        return self.head(features).float()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: batch-norm statistics are used, never moved."""
        return super().train(False)


def save_teacher(teacher: FrozenTeacher, path: Path, *, provenance: dict[str, Any]) -> None:
    """Write one safetensors file: the weights, and in its metadata all that builds the network again.

    Args:
        teacher: the network.
        path: the file.
        provenance: how it was made, kept in the metadata.
    """
    backbone = teacher.backbone
    description = {
        "format": FORMAT,
        "version": VERSION,
        "backbone": backbone.name,
        "stem": backbone.stem,
        "image_size": backbone.image_size,
        "head": describe_head(teacher.head),
        "normalization": teacher.own,
        "provenance": provenance,
    }
    state = {name: value.contiguous().cpu() for name, value in teacher.state_dict().items()}
    description["sha256"] = _checksum(state)
    save_file(state, path, metadata={"teacher": json.dumps(description)})


def load_teacher(path: Path, shown: Normalization) -> FrozenTeacher:
    """The teacher in a file of `save_teacher`, for batches normalised as `shown`; nothing is ever unpickled.

    Raises: TeacherError for a file that is missing, damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["teacher"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']!r}")
        if description["sha256"] != _checksum(state):
            raise ValueError("checksum mismatch")
        teacher = _build(description, shown)
        teacher.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TeacherError(f"{path}: damaged, or not a teacher of this software ({error})") from None
    return teacher


def _checksum(state: dict[str, Tensor]) -> str:
    """SHA-256 of the tensors' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _build(description: dict[str, Any], shown: Normalization) -> FrozenTeacher:
    mean, std = description["normalization"]
    name, stem, image_size = (description[key] for key in ("backbone", "stem", "image_size"))
    if "version" not in description and stem == resolve_stem("auto", name, image_size):
        stem = "auto"  # raydistill 0.1 wrote the stem of a ResNet also for networks that auto leaves as they are
    backbone = Backbone(name, stem=stem, image_size=image_size)
    head = assemble_head(description["head"]) if description["head"] is not None else None
    return FrozenTeacher(backbone, head, (tuple(mean), tuple(std)), shown)


def describe_head(head: nn.Sequential | None) -> list[Layer] | None:
    """The layers of a head as plain values. Raises: TypeError for a layer that is not in `assemble_head`."""
    return None if head is None else [_describe(layer) for layer in head]


def _describe(layer: nn.Module) -> Layer:
    if isinstance(layer, nn.Linear):
        return ["linear", layer.in_features, layer.out_features, layer.bias is not None]
    if isinstance(layer, nn.BatchNorm1d):
        return ["batchnorm", layer.num_features, layer.affine]
    if isinstance(layer, nn.ReLU):
        return ["relu"]
    if isinstance(layer, nn.GELU):
        return ["gelu"]
    raise TypeError(f"a head cannot hold {type(layer).__name__}; only linear layers, batch norm, ReLU and GELU")


def assemble_head(layers: list[Layer]) -> nn.Sequential:
    """The head that `describe_head` described, with fresh weights and the same names in its state.

    A layer is `["linear", in, out, bias]`, `["batchnorm", dim, affine]`, `["relu"]` or `["gelu"]` (DINO's).
    """
    return nn.Sequential(*map(_assemble, layers))


def _assemble(layer: Layer) -> nn.Module:
    kind, *sizes = layer
    if kind == "linear":
        return nn.Linear(sizes[0], sizes[1], bias=sizes[2])
    if kind == "batchnorm":
        return nn.BatchNorm1d(sizes[0], affine=sizes[1])
    if kind == "relu":
        return nn.ReLU(inplace=True)
    if kind == "gelu":
        return nn.GELU()
    raise TeacherError(f"a head cannot hold {kind!r}")

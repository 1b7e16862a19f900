"""Frozen teachers as encoders, and as networks that tasks may train."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


class TeacherFeatures(nn.Module):
    """The features of a frozen teacher's backbone, as an encoder."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher = teacher
        self.dim: int = teacher.backbone.dim

    def forward(self, images: Tensor) -> Tensor:
        return self.teacher(images, "features")

    @property
    def net(self) -> nn.Module:
        """The network inside the backbone."""
        return self.teacher.backbone.net

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) -> the feature (N, dim) and its map (N, H', W', C), see `Backbone.maps`."""
        return self.teacher.backbone.maps(images * self.teacher.scale + self.teacher.shift)


class ThawedTeacher(nn.Module):
    """A copy of a frozen teacher's backbone that can be trained, for batches normalised as the teacher saw them.

    Args:
        teacher: has `backbone`, and `scale` and `shift`, which convert the batches' normalisation to its own.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.backbone: nn.Module = copy.deepcopy(teacher.backbone)
        self.register_buffer("scale", teacher.scale.clone())
        self.register_buffer("shift", teacher.shift.clone())
        self.dim: int = teacher.backbone.dim

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images * self.scale + self.shift)


def trainable(teacher: nn.Module) -> nn.Module:
    """A network that can be trained in the place of a frozen teacher; any other network is returned as it is."""
    frozen = getattr(teacher, "teacher", teacher)
    parts = ("backbone", "scale", "shift")
    return ThawedTeacher(frozen) if all(hasattr(frozen, part) for part in parts) else teacher

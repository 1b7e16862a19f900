"""AutoAugment's CIFAR-10 policy (arXiv 1805.09501), by torchvision's operations, and Cutout (arXiv 1708.04552).

The augmentations of BYOT's journal code. All chance comes from the caller. B images, S pixels a side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@cache
def _policy_class() -> Any:
    """Torchvision's policy, as a class whose three draws are set instead of drawn."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # docs/architecture.md#late-imports

    class Policy(AutoAugment):  # type: ignore[misc] # torchvision has no types
        def __init__(self) -> None:
            super().__init__(AutoAugmentPolicy.CIFAR10)
            self.drawn: tuple[int, Tensor, Tensor] | None = None

        def get_params(self, transform_num: int) -> tuple[int, Tensor, Tensor]:
            assert self.drawn is not None
            return self.drawn

    return Policy


def autoaugment(planes: Tensor, policy: Floats, applied: Floats, signs: Floats) -> None:
    """Apply one of AutoAugment's 25 sub-policies to each image, in place, at 8 bits.

    Args:
        planes: (3, B, S, S) in [0, 1].
        policy: (B,) in [0, 1), which sub-policy.
        applied: (B, 2) in [0, 1), compared with its probabilities.
        signs: (B, 2) in [0, 1), the direction of geometric operations.
    """
    transform = _policy_class()()
    pixels = (planes * 255).round().clamp(0, 255).to(torch.uint8)
    for image in range(planes.shape[1]):
        chosen = int(policy[image] * len(transform.policies))
        transform.drawn = chosen, torch.from_numpy(applied[image]), torch.from_numpy(signs[image] >= 0.5)
        planes[:, image] = transform(pixels[:, image]).to(planes.dtype) / 255


def cutout(images: Tensor, centre: Floats, share: float) -> None:
    """Cut a square hole of zeros into each image, in place; the hole ends at the image's border.

    Args:
        images: (B, 3, S, S).
        centre: (B, 2) in [0, 1), row and column of the hole's middle.
        share: the hole's side as a share of S.
    """
    side = images.shape[-1]
    half = max(1, round(share * side)) / 2
    middle = torch.from_numpy(np.floor(centre * side))
    axis = torch.arange(side) + 0.5
    inside = [(axis >= middle[:, i : i + 1] - half) & (axis < middle[:, i : i + 1] + half) for i in (0, 1)]
    hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images.device)
    images.masked_fill_(hole, 0)

"""Changes of whole batches while a network learns labels: mixup, CutMix and random erasing. C classes, S pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ERASED_AREA = (0.02, 1 / 3)  # shares of the image
ERASED_RATIO = 1 / 0.3  # most, of height over width and of width over height
_ATTEMPTS = 10


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Probabilities (N, C) of labels (N,): 1 - smoothing for the label, and smoothing / C for every class.

    Args:
        labels: (N,).
        classes: C.
        smoothing: between 0 and 1.
    """
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(
    images: Tensor, targets: Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mix each image with the one that has its place from the end of the batch, all by the same share.

    The share is drawn from Beta(a, a). Mixup adds the pixels of both, CutMix replaces a rectangle by that of the other
    image, and its share is what is left. Where both are given, each is used with probability 1/2.

    Source: mixup (arXiv 1710.09412), CutMix (arXiv 1905.04899), by batches as DeiT has them from timm.

    Args:
        images: (N, 3, S, S).
        targets: (N, C), probabilities.
        rng: of the draws.
        mixup: a of mixup; 0: none.
        cutmix: a of CutMix; 0: none.
    """
    if not mixup and not cutmix:
        return images, targets
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    share = float(rng.beta(cutmix, cutmix) if cut else rng.beta(mixup, mixup))
    others = images.flip(0)
    if cut:
        images, (top, bottom, left, right) = images.clone(), _box(images.shape[-2:], share, rng)
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / images[0, 0].numel()
    else:
        images = share * images + (1 - share) * others
    return images, share * targets + (1 - share) * targets.flip(0)


def _box(sides: torch.Size, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Rectangle round a uniform centre, cut at the border: top, bottom, left, right.

    Args:
        sides: height and width in pixels.
        share: of the image that is left where the rectangle lies inside it.
        rng: of the draws.
    """
    found: list[int] = []
    for side in sides:
        half, centre = int(side * math.sqrt(1 - share)) // 2, int(rng.integers(side))
        found += [max(0, centre - half), min(side, centre + half)]
    top, bottom, left, right = found
    return top, bottom, left, right


def erased(images: Tensor, rng: np.random.Generator, probability: float) -> Tensor:
    """Fill a rectangle of some images with noise of unit variance.

    Source: random erasing (arXiv 1708.04896), mode `pixel` of timm. The noise is drawn from torch's own generator.

    Args:
        images: (N, 3, S, S), normalised.
        rng: of the draws but the noise.
        probability: of each image.
    """
    if not probability:
        return images
    images = images.clone()
    height, width = images.shape[-2:]
    for row in np.flatnonzero(rng.random(len(images)) < probability):
        for _ in range(_ATTEMPTS):
            area = rng.uniform(*ERASED_AREA) * height * width
            ratio = ERASED_RATIO ** rng.uniform(-1, 1)
            tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if tall < height and wide < width:
                top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
                images[row, :, top : top + tall, left : left + wide].normal_()
                break
    return images

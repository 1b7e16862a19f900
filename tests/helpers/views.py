"""Images, and their views as the tests of augmentation draw and compare them."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as tv

from raydistill.data.views.augment import Draws, View, augment

CPU = torch.device("cpu")
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNT = 4000


def noise(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def natural(count: int, size: int) -> torch.Tensor:
    """Patches of photographs."""
    photos = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    patches = []
    for k in range(count):
        top, left = rng.integers(0, 427 - 4 * size), rng.integers(0, 640 - 4 * size)
        patches.append(tv.resized_crop(photos[k % 2], top, left, 4 * size, 4 * size, [size, size], antialias=True))
    return torch.stack(patches)


def planes_of(images: torch.Tensor) -> torch.Tensor:
    return (images.permute(1, 0, 2, 3).float() / 255).contiguous()


def draws(recipe: str, count: int = COUNT, seed: int = 0) -> Draws:
    return Draws(seed, 0, View(recipe, 0), np.arange(count))


def view(images, recipe="moco2", draw=0, indices=None, size=24, seed=0, epoch=0, normalize=PLAIN) -> torch.Tensor:
    indices = range(len(images)) if indices is None else indices
    return augment(images, indices, View(recipe, draw), size=size, seed=seed, epoch=epoch, normalize=normalize)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert (ours.double() - theirs.double()).abs().max() <= tolerance

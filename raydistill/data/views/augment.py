"""Views of images: the random draws of augmentation recipes, and what they do to pixels.

Every random number is a hash of (seed, epoch, recipe, draw, purpose, image index), so a view does not depend
on the batch, the worker or the neighbours, and any step can be replayed. B images, S pixels a side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.data.pool import pool
from raydistill.data.views import pixels
from raydistill.data.views.autoaugment import autoaugment, cutout
from raydistill.data.views.colours import HUE
from raydistill.data.views.pixels import Images
from raydistill.data.views.recipes import AugmentationRecipe, Kind, is_plain, recipe_for
from raydistill.options.base import AugmentConfig

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
Integers = NDArray[np.int64]

_ATTEMPTS = 10
_CACHE_BYTES = 3 << 19
_FEWEST = 8  # images at a time: with less, threads wait for Python's lock more than they work
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BY_SIZE: dict[int, Normalization] = {
    32: ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    64: ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    96: ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class View(NamedTuple):
    """One augmented copy of each image: which recipe, which of its independent draws, and what settings change in it.

    A method names recipe and draw. The learner adds the section `augment` of its configuration.
    """

    recipe: str
    draw: int
    changes: AugmentConfig | None = None

    def changed(self, augment: AugmentConfig) -> View:
        """Return the view with these settings; the evaluation view, and any view without settings, stays as it is."""
        return self._replace(changes=augment) if augment.chosen() and not is_plain(self.recipe) else self


def augment(
    images: Images,
    indices: Sequence[int] | Tensor | Integers,
    view: View,
    *,
    size: int,
    seed: int,
    epoch: int,
    normalize: Normalization,
    device: str | torch.device = "cpu",
    kind: Kind = "photographs",
) -> Tensor:
    """Augment images: uint8 (B, 3, H, W), or B of (3, h, w), -> float32 (B, 3, S, S), normalised, channels last.

    Args:
        images: uint8 with three channels.
        indices: (B,) numbers of the images in the data set, which seed their draws.
        view: which recipe, and which of its draws.
        size: S in pixels; a recipe with `scale_to` makes that share of it.
        seed, epoch: the rest of the draws' address.
        normalize: mean and standard deviation of the channels.
        device: where the views are made.
        kind: of the images, which the recipe is fitted to.

    Raises:
        ValueError: unknown recipe, images that are not uint8 with three channels, or B != len(indices).
    """
    recipe = recipe_for(view.recipe, kind, view.changes)
    size = round(size * recipe.scale_to)
    numbers = torch.as_tensor(indices).cpu().numpy()
    shapes = _shapes(images)
    if len(shapes) != len(numbers):
        raise ValueError(f"{len(shapes)} images with {len(numbers)} indices; give one index per image")
    out = torch.empty(len(numbers), 3, size, size, device=device, memory_format=torch.channels_last)

    inference = torch.is_inference_mode_enabled()  # of this thread alone

    @torch.inference_mode(inference)
    def fill(part: slice) -> None:
        draws = Draws(seed, epoch, view, numbers[part])
        rows, columns = _windows(recipe, draws, shapes[part], size)
        flip = draws("flip")[:, 0] < recipe.flip_p
        planes = pixels.resample(images[part], rows, columns, size, flip, out.device)
        if recipe.auto:
            autoaugment(planes, draws("policy")[:, 0], draws("applied", 2), draws("sign", 2))
        if recipe.turns or recipe.vertical_p:
            _turn(planes, draws("turn", 2) < ((0.5, 0.5) if recipe.turns else (recipe.vertical_p, 0.0)))
        if recipe.rotation:
            planes = pixels.rotate(planes, _between(draws("angle")[:, 0], -recipe.rotation, recipe.rotation))
        _recolour(planes, recipe, draws)
        pixels.normalized(planes, *normalize, out[part])
        if recipe.cutout:
            cutout(out[part], draws("hole", 2), recipe.cutout)

    # On CPU a few images at a time: for cache, and lest every buffer be mapped afresh. The result is the same.
    step = max(_FEWEST, _CACHE_BYTES // (12 * size * size)) if out.device.type == "cpu" else max(1, len(out))
    parts = [slice(start, start + step) for start in range(0, len(out), step)]
    list(pool().map(fill, parts) if len(parts) > 1 else map(fill, parts))
    return out


def evaluate_view(images: Images, *, size: int, normalize: Normalization, device: str | torch.device = "cpu") -> Tensor:
    """Prepare images for evaluation, without chance: uint8 images -> float32 (B, 3, S, S), normalised.

    Up to 96 px they are resized to S x S; larger ones to a short side of S * 256 / 224, then centre-cropped.

    Args:
        images: uint8, (B, 3, H, W) or B of (3, h, w).
        size: S in pixels.
        normalize: mean and standard deviation of the channels.
        device: where the views are made.
    """
    everyone, view = range(len(images)), View("eval", 0)
    return augment(images, everyone, view, size=size, seed=0, epoch=0, normalize=normalize, device=device)


def normalization(source_name: str, size: int) -> Normalization:
    """Mean and standard deviation of each channel: DoGo's code picks them by image size, else ImageNet's.

    Raises ValueError for images below 4 pixels.
    """
    if size < 4:
        raise ValueError(f"{source_name}: images of {size} px; at least 4 are needed")
    return _BY_SIZE.get(size, _IMAGENET)


# docs/architecture.md#addressed-random-numbers
@dataclass(frozen=True)
class Draws:
    """Uniform numbers of one view of some images, as a function of what they are for."""

    seed: int
    epoch: int
    view: View
    indices: Integers

    def __call__(self, purpose: str, count: int = 1) -> pixels.Floats:
        """(B, count) in [0, 1), of 53 random bits: splitmix64's finaliser over a hash of all the names."""
        name = f"{self.seed}/{self.epoch}/{self.view.recipe}/{self.view.draw}/{purpose}"
        key = np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), np.uint64)
        image = _mix(self.indices.astype(np.uint64) * _GOLDEN + key)
        bits = _mix(image[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _windows(recipe: AugmentationRecipe, draws: Draws, shapes: Integers, size: int) -> list[pixels.Window]:
    """Rows and columns that each image is resampled from."""
    if recipe.crop == "none":
        return pixels.centre(shapes, size)
    top, left, height, width = crop_boxes(recipe, draws, shapes).T
    return [pixels.box(top, height, size), pixels.box(left, width, size)]


def crop_boxes(recipe: AugmentationRecipe, draws: Draws, shapes: Integers) -> Integers:
    """Draw crops: (B, 4) top, left, height and width, in pixels.

    The law is that of torchvision's RandomResizedCrop, or of its RandomCrop with padding.

    Args:
        recipe: its scale, ratio and padding.
        draws: the uniform numbers of these images.
        shapes: (B, 2) heights and widths of the images.
    """
    corner = draws("corner", 2)
    if recipe.crop == "pad":
        padding = shapes // 8
        start = np.floor(corner * (2 * padding + 1)).astype(np.int64) - padding
        return np.concatenate([start, shapes], 1)
    kept, drawn = _crop_shapes(recipe, draws, shapes)
    room = shapes - kept
    start = np.where(drawn, np.floor(corner * (room + 1)), room // 2).astype(np.int64)
    return np.concatenate([start, kept], 1)


def _crop_shapes(recipe: AugmentationRecipe, draws: Draws, shapes: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Height and width (B, 2) of the first attempt that fits, and whether (B, 1) one did.

    Where none does: the largest of the nearest allowed ratio, which is then centred.
    """
    heights, widths = shapes.T
    area = (heights * widths)[:, None] * _between(draws("area", _ATTEMPTS), *recipe.scale)
    ratio = np.exp(_between(draws("ratio", _ATTEMPTS), *np.log(recipe.ratio)))
    width, height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
    first = (np.arange(len(shapes)), fits.argmax(1))
    largest = np.stack([np.rint(widths / recipe.ratio[0]), np.rint(heights * recipe.ratio[1])], 1)
    attempt = np.stack([height[first], width[first]], 1)
    kept = np.where(fits[first][:, None], attempt, np.minimum(shapes, largest))
    return kept.astype(np.int64), fits[first][:, None]


def jitter_parameters(recipe: AugmentationRecipe, draws: Draws) -> tuple[pixels.Floats, Integers]:
    """Factors (B, 4) and order (B, 4) for `pixels.jitter`, by torchvision's law."""
    assert recipe.jitter is not None
    spread = np.array(recipe.jitter)
    low, high = np.maximum(0, 1 - spread), 1 + spread
    low[HUE], high[HUE] = -spread[HUE], spread[HUE]
    return _between(draws("factor", 4), low, high), draws("order", 4).argsort(1)


def is_grey(recipe: AugmentationRecipe, draws: Draws) -> NDArray[np.bool_]:
    """(B,) whether the image loses its colours."""
    grey: NDArray[np.bool_] = draws("grey", 2 if recipe.gray_twice else 1).min(1) < recipe.gray_p
    return grey


def _between(uniform: pixels.Floats, low: float | pixels.Floats, high: float | pixels.Floats) -> pixels.Floats:
    return low + (high - low) * uniform


def _turn(planes: Tensor, chosen: NDArray[np.bool_]) -> None:
    """Mirror the images (3, B, S, S) that the first column of (B, 2) says top to bottom, then transpose, in place.

    With the recipe's own mirroring left to right before it, in this order, all eight orientations come about.
    """
    mirrored, transposed = (torch.from_numpy(column).to(planes.device)[:, None, None] for column in chosen.T)
    planes.copy_(torch.where(mirrored, planes.flip(2), planes))
    planes.copy_(torch.where(transposed, planes.transpose(2, 3), planes))


def _recolour(planes: Tensor, recipe: AugmentationRecipe, draws: Draws) -> None:
    """Everything that moves no pixel, in place."""
    grey = np.flatnonzero(is_grey(recipe, draws))
    if recipe.gray_first:
        pixels.greyscale(planes, grey)
    if recipe.jitter is not None:
        factors, order = jitter_parameters(recipe, draws)
        jittered = np.flatnonzero(draws("jitter")[:, 0] < recipe.jitter_p)
        pixels.jitter(planes, factors[jittered], order[jittered], jittered)
    if not recipe.gray_first:
        pixels.greyscale(planes, grey)
    if planes.shape[-1] >= recipe.blur_min_size:
        sigma, reach = _blur_parameters(recipe, draws, planes.shape[-1])
        blurred = np.flatnonzero(draws("blur")[:, 0] < recipe.blur_p)
        pixels.blur(planes, sigma[blurred], reach, blurred)
    pixels.solarize(planes, np.flatnonzero(draws("solarize")[:, 0] < recipe.solarize_p))


def _blur_parameters(recipe: AugmentationRecipe, draws: Draws, size: int) -> tuple[pixels.Floats, int]:
    """Sigmas (B,) in pixels, and how many pixels away the Gaussian reaches.

    A share of the image has the range that the published sigmas have, down to a twentieth, and reaches three sigmas.
    """
    low, high = recipe.blur_sigma
    if recipe.blur_share is None:
        return _between(draws("sigma")[:, 0], low, high), pixels.blur_size(size) // 2
    most = recipe.blur_share * size
    return _between(draws("sigma")[:, 0], most * low / high, most), min(size - 1, max(1, math.ceil(3 * most)))


def _shapes(images: Images) -> Integers:
    """Heights and widths (B, 2)."""
    for image in images if isinstance(images, Sequence) else [images]:
        if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-3] != 3:
            raise ValueError(f"image {image.dtype}, {tuple(image.shape)}; accepted: uint8 of shape (3, h, w)")
    return np.array([image.shape[-2:] for image in images], np.int64).reshape(-1, 2)

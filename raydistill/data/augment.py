"""Augmentation recipes and their random draws.

Every random number is a hash of (seed, epoch, recipe, draw, purpose, image index), so a view does not depend
on the batch, the worker or the neighbours, and any step can be replayed. B images, S pixels a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.data import pixels
from raydistill.data.autoaugment import autoaugment, cutout
from raydistill.data.pixels import Images

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
Integers = NDArray[np.int64]

_ATTEMPTS = 10
_CACHE_BYTES = 3 << 19
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BY_SIZE: dict[int, Normalization] = {
    32: ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    64: ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    96: ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class View(NamedTuple):
    """One augmented copy of each image: which recipe, and which of its independent draws."""

    recipe: str
    draw: int


@dataclass(frozen=True)
class AugmentationRecipe:
    """Draws of one kind of view. Order: crop, grey if first, jitter, grey, blur, solarise, flip, normalise.

    `scale` is the share of the image's area that a resized crop keeps and `ratio` its width over height;
    "pad" pads by an eighth (4 at 32 px) and crops back; "none" is the evaluation view. `jitter` holds
    brightness, contrast, saturation and hue. With `gray_twice` the image is grey if either of two draws of
    `gray_p` says so. `blur_sigma` is in pixels; below `blur_min_size` output pixels nothing is blurred.
    `scale_to` makes the view smaller than the caller's size. `auto` is AutoAugment's CIFAR-10 policy; `cutout`
    the side of a hole, as a share of the image's. With `turns` every view is also mirrored top to bottom and turned
    by a quarter, each with probability 1/2.
    """

    crop: Literal["resized", "pad", "none"] = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: tuple[float, float, float, float] | None = None
    jitter_p: float = 0.8
    gray_p: float = 0.0
    gray_first: bool = False
    gray_twice: bool = False
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_min_size: int = 0
    solarize_p: float = 0.0
    flip_p: float = 0.5
    scale_to: float = 1.0
    auto: bool = False
    cutout: float = 0.0
    turns: bool = False


_MILD = (0.4, 0.4, 0.4, 0.1)
_BYOL = (0.4, 0.4, 0.2, 0.1)

RECIPES: dict[str, AugmentationRecipe] = {
    "moco1": AugmentationRecipe(scale=(0.2, 1), jitter=(0.4,) * 4, jitter_p=1.0, gray_p=0.2, gray_first=True),
    "moco2": AugmentationRecipe(scale=(0.2, 1), jitter=_MILD, gray_p=0.2, blur_p=0.5),
    "byol1": AugmentationRecipe(jitter=_BYOL, gray_p=0.2, blur_p=1.0),
    "byol2": AugmentationRecipe(jitter=_BYOL, gray_p=0.2, blur_p=0.1, solarize_p=0.2),
    "simclr": AugmentationRecipe(jitter=(0.8, 0.8, 0.8, 0.2), gray_p=0.2, blur_p=0.5, blur_min_size=224),
    "simsiam_dogo": AugmentationRecipe(jitter=_MILD, gray_p=0.2, gray_twice=True, blur_p=0.5, blur_min_size=224),
    "swav": AugmentationRecipe(scale=(0.14, 1), jitter=_MILD, gray_p=0.2, blur_p=0.5),
    "swav_small": AugmentationRecipe(scale=(0.05, 0.14), jitter=_MILD, gray_p=0.2, blur_p=0.5, scale_to=96 / 224),
    "small": AugmentationRecipe(scale=(0.2, 1), jitter=_MILD, gray_p=0.2, blur_p=0.5, blur_min_size=224),
    "weak": AugmentationRecipe(scale=(0.2, 1)),
    "rrcflip": AugmentationRecipe(),
    "clusterfit": AugmentationRecipe(jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=1.0),
    "cifar_sup": AugmentationRecipe(crop="pad"),
    "cifar_auto": AugmentationRecipe(crop="pad", auto=True, cutout=0.5),
    "eval": AugmentationRecipe(crop="none", flip_p=0.0),
}


Kind = Literal["photographs", "characters", "aerial"]
_CHARACTER_SCALE, _CHARACTER_RATIO, _CHARACTER_JITTER = 0.7, (0.9, 1.1), 0.4


@cache
def recipe_for(name: str, kind: Kind = "photographs") -> AugmentationRecipe:
    """Return a recipe as it is for one kind of images; published recipes are made for photographs.

    `characters`: mirrored or cut to a fifth, a digit is another one or none. So crops keep 70 % of the image (a recipe
    of small views, 30 to 70 %) and nearly its shape, nothing is mirrored or solarised, and jitter is of brightness and
    contrast, at most 0.4. `aerial`: seen from above, up is no direction, so views are turned and mirrored each way.
    The evaluation view is the same for all.

    Raises: ValueError for an unknown recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; valid: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if kind == "photographs" or recipe.crop == "none":
        return recipe
    if kind == "aerial":
        return replace(recipe, turns=True, flip_p=0.5)
    low, high = recipe.scale
    scale = (max(low, _CHARACTER_SCALE), max(high, _CHARACTER_SCALE)) if recipe.scale_to == 1 else (0.3, 0.7)
    jitter = None
    if recipe.jitter is not None:
        brightness, contrast, _, _ = recipe.jitter
        jitter = (min(brightness, _CHARACTER_JITTER), min(contrast, _CHARACTER_JITTER), 0.0, 0.0)
    return replace(recipe, scale=scale, ratio=_CHARACTER_RATIO, jitter=jitter, flip_p=0.0, solarize_p=0.0)


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
    recipe = recipe_for(view.recipe, kind)
    size = round(size * recipe.scale_to)
    numbers = torch.as_tensor(indices).cpu().numpy()
    shapes = _shapes(images)
    if len(shapes) != len(numbers):
        raise ValueError(f"{len(shapes)} images with {len(numbers)} indices; give one index per image")
    out = torch.empty(len(numbers), 3, size, size, device=device, memory_format=torch.channels_last)
    # On CPU a few images at a time: for cache, and lest every buffer be mapped afresh. The result is the same.
    step = max(1, _CACHE_BYTES // (12 * size * size) if out.device.type == "cpu" else len(out))
    for start in range(0, len(out), step):
        part = slice(start, start + step)
        draws = Draws(seed, epoch, view, numbers[part])
        rows, columns = _windows(recipe, draws, shapes[part], size)
        flip = draws("flip")[:, 0] < recipe.flip_p
        planes = pixels.resample(images[part], rows, columns, size, flip, out.device)
        if recipe.auto:
            autoaugment(planes, draws("policy")[:, 0], draws("applied", 2), draws("sign", 2))
        if recipe.turns:
            _turn(planes, draws("turn", 2) < 0.5)
        _recolour(planes, recipe, draws)
        pixels.normalized(planes, *normalize, out[part])
        if recipe.cutout:
            cutout(out[part], draws("hole", 2), recipe.cutout)
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
    low[pixels.HUE], high[pixels.HUE] = -spread[pixels.HUE], spread[pixels.HUE]
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
    """Everything but the crop and the flip, in place."""
    grey = is_grey(recipe, draws)
    if recipe.gray_first:
        pixels.apply(planes, grey, lambda part, who: pixels.greyscale(part))
    if recipe.jitter is not None:
        factors, order = jitter_parameters(recipe, draws)
        jittered = draws("jitter")[:, 0] < recipe.jitter_p
        pixels.apply(planes, jittered, lambda part, who: pixels.jitter(part, factors[who], order[who]))
    if not recipe.gray_first:
        pixels.apply(planes, grey, lambda part, who: pixels.greyscale(part))
    if planes.shape[-1] >= recipe.blur_min_size:
        sigma = _between(draws("sigma")[:, 0], *recipe.blur_sigma)
        blurred = draws("blur")[:, 0] < recipe.blur_p
        pixels.apply(planes, blurred, lambda part, who: pixels.blur(part, sigma[who]))
    solarized = draws("solarize")[:, 0] < recipe.solarize_p
    pixels.apply(planes, solarized, lambda part, who: pixels.solarize(part))


def _shapes(images: Images) -> Integers:
    """Heights and widths (B, 2)."""
    for image in images if isinstance(images, Sequence) else [images]:
        if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-3] != 3:
            raise ValueError(f"image {image.dtype}, {tuple(image.shape)}; accepted: uint8 of shape (3, h, w)")
    return np.array([image.shape[-2:] for image in images], np.int64).reshape(-1, 2)

"""Augmentation recipes: the published ones, and how images and settings change them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from raydistill.options.base import AugmentConfig


@dataclass(frozen=True)
class AugmentationRecipe:
    """Draws of one kind of view.

    Order: crop, mirroring left to right, mirroring top to bottom and turns, rotation, grey if first, jitter, grey,
    blur, solarise, normalise, cutout.

    `scale` is the share of the image's area that a resized crop keeps and `ratio` its width over height;
    "pad" pads by an eighth (4 at 32 px) and crops back; "none" is the evaluation view. `jitter` holds
    brightness, contrast, saturation and hue. With `gray_twice` the image is grey if either of two draws of
    `gray_p` says so. `blur_sigma` is in pixels; below `blur_min_size` output pixels nothing is blurred. `blur_share`
    is the largest sigma as a share of the image's side, and replaces `blur_sigma`.
    `scale_to` makes the view smaller than the caller's size. `auto` is AutoAugment's CIFAR-10 policy; `cutout`
    the side of a hole, as a share of the image's. `flip_p` mirrors left to right, `vertical_p` top to bottom. With
    `turns` every view is also mirrored top to bottom and turned by a quarter, each with probability 1/2. `rotation` is
    the largest angle, in degrees.
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
    vertical_p: float = 0.0
    rotation: float = 0.0
    blur_share: float | None = None


NOT_IN_0_1 = ("turns", "vertical_p", "rotation", "blur_share")  # fields of recipes that came after version 0.1
_MILD = (0.4, 0.4, 0.4, 0.1)
PLAIN_JITTER = (0.4, 0.4, 0.0, 0.0)  # of a recipe without one: brightness and contrast, which suit every kind of images
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

Kind = Literal["photographs", "characters", "aerial", "microscopy", "grey"]
_CHARACTER_SCALE, _CHARACTER_RATIO = 0.7, (0.9, 1.1)
# The most that brightness, contrast, saturation and hue change, where that is less than in photographs.
_JITTER: dict[Kind, tuple[float, float, float, float]] = {
    "characters": (0.4, 0.4, 0.0, 0.0),
    "microscopy": (0.2, 0.2, 0.1, 0.02),
    "grey": (1.0, 1.0, 0.0, 0.0),
}


def is_plain(name: str) -> bool:
    """Return whether a recipe is the evaluation view, which knows no chance and which no setting changes."""
    return name in RECIPES and RECIPES[name].crop == "none"


@lru_cache(maxsize=1024)
def recipe_for(name: str, kind: Kind = "photographs", changes: AugmentConfig | None = None) -> AugmentationRecipe:
    """Return a recipe as it is for one kind of images and with the settings that change it.

    Published recipes are made for photographs. `characters`: mirrored or cut to a fifth, a digit is another one or
    none. So crops keep 70 % of the image (a recipe of small views, 30 to 70 %) and nearly its shape, nothing is
    mirrored or solarised, and jitter is of brightness and contrast, at most 0.4. `aerial`: seen from above, up is no
    direction, so views are turned and mirrored each way. `microscopy`: neither is it on a slide, and the colour of a
    stain says what it has stained. So views are turned and mirrored as well, never grey or solarised and without
    AutoAugment, and jitter is at most 0.2 of brightness and contrast, 0.1 of saturation and 0.02 of hue. `grey`:
    photographs without colour, such as X-rays, in which saturation, hue and the grey step change nothing. They are
    left out.

    What `changes` sets comes after that and wins. The evaluation view is the same for all.

    Args:
        name: of the recipe.
        kind: of the images.
        changes: the section `augment` of the configuration.

    Raises: ValueError for an unknown recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; valid: {', '.join(RECIPES)}")
    if is_plain(name):
        return RECIPES[name]
    fitted = _fitted(RECIPES[name], kind)
    return fitted if changes is None else _changed(fitted, changes)


def _fitted(recipe: AugmentationRecipe, kind: Kind) -> AugmentationRecipe:
    jitter = recipe.jitter
    if jitter is not None and kind in _JITTER:
        jitter = tuple(map(min, jitter, _JITTER[kind]))  # type: ignore[assignment] # four, as before
    if kind == "characters":
        low, high = recipe.scale
        scale = (max(low, _CHARACTER_SCALE), max(high, _CHARACTER_SCALE)) if recipe.scale_to == 1 else (0.3, 0.7)
        return replace(recipe, scale=scale, ratio=_CHARACTER_RATIO, jitter=jitter, flip_p=0.0, solarize_p=0.0)
    if kind == "aerial":
        return replace(recipe, turns=True, flip_p=0.5)
    if kind == "microscopy":
        return replace(recipe, turns=True, flip_p=0.5, jitter=jitter, gray_p=0.0, solarize_p=0.0, auto=False)
    return replace(recipe, jitter=jitter, gray_p=0.0) if kind == "grey" else recipe


_SAME_MEANING = {
    "mirror": "flip_p",
    "mirror_vertical": "vertical_p",
    "turns": "turns",
    "rotation": "rotation",
    "jitter": "jitter_p",
    "grey": "gray_p",
    "blur": "blur_p",
    "blur_sigma": "blur_share",
    "solarize": "solarize_p",
    "cutout": "cutout",
}


def _changed(recipe: AugmentationRecipe, changes: AugmentConfig) -> AugmentationRecipe:
    chosen = changes.chosen()
    new: dict[str, Any] = {_SAME_MEANING[name]: value for name, value in chosen.items() if name in _SAME_MEANING}
    if changes.min_crop is not None:
        new |= {"crop": "resized", "scale": _scale(recipe, changes.min_crop)}
    strengths = (changes.brightness, changes.contrast, changes.saturation, changes.hue)
    if strengths != (None,) * 4:
        own = recipe.jitter or (0.0,) * 4
        new["jitter"] = tuple(mine if given is None else given for given, mine in zip(strengths, own, strict=True))
    elif changes.jitter and recipe.jitter is None:
        new["jitter"] = PLAIN_JITTER
    if changes.turns:
        new["flip_p"] = 0.5
    if changes.grey is not None:
        new["gray_twice"] = False
    if changes.blur is not None or changes.blur_sigma is not None:
        new["blur_min_size"] = 0
    return replace(recipe, **new)


def _scale(recipe: AugmentationRecipe, low: float) -> tuple[float, float]:
    """Shares of the area from `low` on; small views keep the proportion of their largest to their smallest crop."""
    if recipe.scale_to == 1:
        return low, max(low, recipe.scale[1])
    return low, min(1.0, low * recipe.scale[1] / recipe.scale[0])

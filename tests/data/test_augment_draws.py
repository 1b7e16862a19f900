"""Augmentations are drawn as torchvision draws them, and in the published order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.views import COUNT, assert_close, draws, natural, noise, view
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from raydistill.data.views import pixels
from raydistill.data.views.augment import crop_boxes, is_grey, jitter_parameters
from raydistill.data.views.recipes import RECIPES, AugmentationRecipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", ["simclr", "moco2", "swav_small"])
@pytest.mark.parametrize(("height", "width"), [(100, 100), (60, 200)])
def test_crop_law_is_torchvisions(recipe, height, width):
    torch.manual_seed(0)
    chosen = RECIPES[recipe]
    law = v2.RandomResizedCrop(1, scale=chosen.scale, ratio=chosen.ratio)
    blank = torch.empty(3, height, width)
    params = [law.make_params([blank]) for _ in range(COUNT)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in params], float)
    ours = crop_boxes(chosen, draws(recipe), np.array([[height, width]] * COUNT)).astype(float)
    for measure in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    ):
        assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-3
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= [height, width]).all()


@pytest.mark.parametrize(("height", "width"), [(4, 40), (40, 4), (7, 9)])
def test_crop_fallback_is_torchvisions(height, width):
    """A share of the area above one never fits, so every attempt fails."""
    law = v2.RandomResizedCrop(1, scale=(2.0, 3.0))
    p = law.make_params([torch.empty(3, height, width)])
    boxes = crop_boxes(AugmentationRecipe(scale=(2.0, 3.0)), draws("weak", 3), np.array([[height, width]] * 3))
    assert boxes.tolist() == [[p["top"], p["left"], p["height"], p["width"]]] * 3


def test_padded_crop_is_uniform_over_nine_offsets():
    boxes = crop_boxes(RECIPES["cifar_sup"], draws("cifar_sup"), np.array([[32, 32]] * COUNT))
    for axis in (0, 1):
        counts = np.bincount(boxes[:, axis] + 4, minlength=9)
        assert len(counts) == 9
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("recipe", ["simclr", "moco1", "byol1"])
def test_jitter_law_is_torchvisions(recipe):
    torch.manual_seed(0)
    brightness, contrast, saturation, hue = RECIPES[recipe].jitter
    law = v2.ColorJitter(brightness, contrast, saturation, hue)
    params = [law.make_params([]) for _ in range(COUNT)]
    names = ["brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"]
    factors, order = jitter_parameters(RECIPES[recipe], draws(recipe))
    for place, name in enumerate(names):
        assert stats.ks_2samp(factors[:, place], [float(p[name]) for p in params]).pvalue > 1e-3
    counts = np.unique(order, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [("simclr", 0.2), ("moco1", 0.2), ("simsiam_dogo", 1 - 0.8**2), ("weak", 0.0)],
)
def test_grey_rate(recipe, rate):
    """DoGo's SimSiam has two independent chances of 0.2, neither bound to the jitter's 0.8."""
    grey = int(is_grey(RECIPES[recipe], draws(recipe)).sum())
    assert stats.binomtest(grey, COUNT, rate).pvalue > 1e-3


@pytest.mark.parametrize(("recipe", "rate"), [("byol1", 0.0), ("byol2", 0.2)])
def test_solarize_rate(recipe, rate):
    """White images: solarised ones are black, whatever the crop; jitter only darkens white."""
    count = 600
    white = torch.full((count, 3, 6, 6), 255, dtype=torch.uint8)
    solarized = int((view(white, recipe, size=6).amax((1, 2, 3)) <= 0.5).sum())
    assert stats.binomtest(solarized, count, rate).pvalue > 1e-3


@pytest.mark.parametrize(("recipe", "rate"), [("moco1", 1.0), ("simclr", 0.8), ("weak", 0.0)])
def test_jitter_rate(recipe, rate):
    """One colour throughout: only jitter or grey can change it, and grey is told apart by its channels."""
    count = 1500
    olive = torch.tensor([120, 110, 40], dtype=torch.uint8).view(1, 3, 1, 1).expand(count, 3, 6, 6)
    colour = view(olive, recipe, size=6)[..., 0, 0]
    coloured = colour[(colour.amax(1) - colour.amin(1)) > 1e-6]
    moved = (coloured - olive[0, :, 0, 0] / 255).abs().amax(1) > 1e-5
    assert stats.binomtest(int(moved.sum()), len(moved), rate).pvalue > 1e-3


@pytest.mark.parametrize("recipe", ["moco1", "byol2", "simsiam_dogo"])
def test_order_of_the_steps(recipe):
    """The whole view rebuilt from its parameters with torchvision's operations, in the published order."""
    count, size, chosen, drawn = 40, 24, RECIPES[recipe], draws(recipe, 40)
    images = noise(count, 30, 34)
    boxes = crop_boxes(chosen, drawn, np.array([[30, 34]] * count))
    factors, order = jitter_parameters(chosen, drawn)
    operations = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    ours = view(images, recipe)
    for k in range(count):
        x = tv.resized_crop(images[k].double() / 255, *boxes[k].tolist(), [size, size], antialias=True)
        steps = [(drawn("jitter")[k, 0] < chosen.jitter_p, operations[i], float(factors[k, i])) for i in order[k]]
        grey = (is_grey(chosen, drawn)[k], tv.rgb_to_grayscale, 3)
        steps = [grey, *steps] if recipe == "moco1" else [*steps, grey]
        for applied, operation, parameter in steps:
            x = operation(x, parameter) if applied else x
        if size >= chosen.blur_min_size and drawn("blur")[k, 0] < chosen.blur_p:
            low, high = chosen.blur_sigma
            x = tv.gaussian_blur(x, [3, 3], [low + (high - low) * drawn("sigma")[k, 0]])
        if drawn("solarize")[k, 0] < chosen.solarize_p:
            x = torch.where(
                (x - 0.5).abs() < 1e-4, ours[k].flip(-1) if drawn("flip")[k, 0] < 0.5 else ours[k], tv.solarize(x, 0.5)
            )
        x = x.flip(-1) if drawn("flip")[k, 0] < chosen.flip_p else x
        assert_close(ours[k], x, 1e-4)


def test_flip_and_blur_rates():
    ramp = torch.arange(0, 256, 32, dtype=torch.uint8).expand(600, 3, 8, 8)
    out = view(ramp, "weak", size=8)
    flipped = int((out[:, 0, 0, 0] > out[:, 0, 0, -1]).sum())
    assert stats.binomtest(flipped, 600, 0.5).pvalue > 1e-3
    same = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip_p": 0.0}
    RECIPES["only_blur"] = AugmentationRecipe(**same, blur_p=0.3)
    try:
        step = noise(600, 8, 8)
        moved = (view(step, "only_blur", size=8) - step / 255).abs().amax((1, 2, 3)) > 1e-4
    finally:
        del RECIPES["only_blur"]
    # Below a sigma of about 0.23 (7 % of the draws) three taps change nothing that can be seen.
    assert stats.binomtest(int(moved.sum()), 600, 0.3 * 1.77 / 1.9).pvalue > 1e-3


def test_uniforms_are_uniform_and_independent():
    numbers = draws("simclr")("area", 10)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    others = draws("simclr")("ratio", 10), draws("moco2")("area", 10), draws("simclr", seed=1)("area", 10)
    for other in (*others, np.roll(numbers, 1, axis=0), np.roll(numbers, 1, axis=1)):
        assert abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(numbers.size)


def test_first_uniforms_are_frozen():
    """A change here silently changes every recorded run."""
    assert draws("simclr", 2)("area", 2).tolist() == [
        [0.8045261578317768, 0.9320689081422783],
        [0.722809388096533, 0.7212260901000066],
    ]


def torchvision_pipeline(recipe: AugmentationRecipe, size: int) -> v2.Compose:
    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomResizedCrop(size, scale=recipe.scale, ratio=recipe.ratio, antialias=True),
            v2.RandomApply([v2.ColorJitter(*recipe.jitter)], p=recipe.jitter_p),
            v2.RandomGrayscale(recipe.gray_p),
            v2.RandomApply([v2.GaussianBlur(pixels.blur_size(size), recipe.blur_sigma)], p=recipe.blur_p),
            v2.RandomSolarize(0.5, recipe.solarize_p),
            v2.RandomHorizontalFlip(recipe.flip_p),
        ]
    )


@pytest.mark.parametrize("recipe", ["simclr", "byol2"])
def test_pixels_of_photographs_are_distributed_as_torchvisions(recipe):
    torch.manual_seed(0)
    images = natural(8, 24).repeat(50, 1, 1, 1)
    chosen = RECIPES[recipe]
    if chosen.blur_min_size:
        chosen = AugmentationRecipe(jitter=chosen.jitter, gray_p=chosen.gray_p)
    theirs = torch.stack([torchvision_pipeline(chosen, 16)(image) for image in images])
    ours = view(images, recipe, size=16)
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: x.std(1).mean((1, 2)),
    ):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3

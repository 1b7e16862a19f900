"""Augmentation against torchvision, pixel by pixel and draw by draw, and its independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from raydistill.data import pixels
from raydistill.data.augment import (
    RECIPES,
    AugmentationRecipe,
    Draws,
    View,
    augment,
    crop_boxes,
    evaluate_view,
    is_grey,
    jitter_parameters,
    normalization,
)

CPU = torch.device("cpu")
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNT = 4000


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


# Pixel operations


@pytest.mark.parametrize("height,width,size", [(40, 33, 32), (8, 8, 32), (90, 70, 24), (32, 32, 32), (5, 200, 16)])
def test_resample_equals_resized_crop(height, width, size):
    images = noise(6, height, width)
    boxes = crop_boxes(RECIPES["simclr"], draws("simclr", 6), np.array([[height, width]] * 6))
    top, left, box_height, box_width = boxes.T
    flip = np.arange(6) % 2 == 1
    rows, columns = pixels.box(top, box_height, size), pixels.box(left, box_width, size)
    ours = pixels.resample(images, rows, columns, size, flip, CPU)
    for k, (image, box) in enumerate(zip(images.double() / 255, boxes.tolist(), strict=True)):
        theirs = tv.resized_crop(image, *box, [size, size], antialias=True)
        assert_close(ours[:, k], tv.horizontal_flip(theirs) if flip[k] else theirs)


def test_padded_crop_equals_torchvision():
    images = noise(8, 32, 32)
    boxes = crop_boxes(RECIPES["cifar_sup"], draws("cifar_sup", 8), np.array([[32, 32]] * 8))
    ours = pixels.resample(
        images,
        pixels.box(boxes[:, 0], boxes[:, 2], 32),
        pixels.box(boxes[:, 1], boxes[:, 3], 32),
        32,
        np.zeros(8, bool),
        CPU,
    )
    padded = tv.pad(images.float() / 255, [4])
    for k, (top, left, height, width) in enumerate(boxes.tolist()):
        assert_close(ours[:, k], tv.crop(padded[k], top + 4, left + 4, height, width), 1e-6)


@pytest.mark.parametrize("height,width,size", [(32, 32, 32), (8, 8, 32), (70, 50, 96), (300, 201, 112), (40, 60, 224)])
def test_evaluation_view_equals_torchvision(height, width, size):
    images = noise(2, height, width)
    floats = images.double() / 255
    if size <= 96:
        theirs = tv.resize(floats, [size, size], antialias=True)
    else:
        theirs = tv.center_crop(tv.resize(floats, [size * 256 // 224], antialias=True), [size, size])
    assert_close(evaluate_view(images, size=size, normalize=PLAIN), theirs)


@pytest.mark.parametrize(
    "place,reference,low,high",
    [
        (pixels.BRIGHTNESS, tv.adjust_brightness, 0.2, 1.8),
        (pixels.CONTRAST, tv.adjust_contrast, 0.2, 1.8),
        (pixels.SATURATION, tv.adjust_saturation, 0.2, 1.8),
        (pixels.HUE, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_each_colour_operation_equals_torchvision(place, reference, low, high):
    images = torch.cat([noise(6, 9, 13), torch.full((1, 3, 9, 13), 77, dtype=torch.uint8)])
    values = np.linspace(low, high, 7)
    factors = np.array([[1.0, 1.0, 1.0, 0.0]] * 7)
    factors[:, place] = values
    ours = pixels.jitter(planes_of(images), factors, np.array([[0, 1, 2, 3]] * 7))
    for k, value in enumerate(values):
        theirs = reference(images[k].double() / 255, float(value))
        # With its factor at 0, hue still goes through HSV and back.
        assert_close(ours[:, k], theirs, 1e-4 if place == pixels.HUE else 1e-5)


def test_jitter_follows_each_images_own_order():
    images = noise(24, 8, 8)
    factors, order = jitter_parameters(RECIPES["simclr"], draws("simclr", 24))
    ours = pixels.jitter(planes_of(images), factors, order)
    reference = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    assert len({tuple(row) for row in order.tolist()}) > 8
    for k in range(24):
        theirs = images[k].double() / 255
        for operation in order[k]:
            theirs = reference[operation](theirs, float(factors[k, operation]))
        assert_close(ours[:, k], theirs, 1e-4)


def test_greyscale_and_solarize_equal_torchvision():
    images = noise(5, 7, 11)
    planes, floats = planes_of(images), images.float() / 255
    assert_close(pixels.greyscale(planes).transpose(0, 1), tv.rgb_to_grayscale(floats, 3))
    assert_close(pixels.solarize(planes).transpose(0, 1), tv.solarize(images, 128).float() / 255)


@pytest.mark.parametrize("size,kernel", [(4, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_blur_equals_torchvision(size, kernel):
    images = noise(3, size, size)
    sigma = np.array([0.1, 0.7, 2.0])
    ours = pixels.blur(planes_of(images), sigma)
    assert pixels.blur_size(size) == kernel
    for k in range(3):
        assert_close(ours[:, k], tv.gaussian_blur(images[k].double() / 255, [kernel] * 2, [sigma[k]]))


@pytest.mark.parametrize("size,expected", [(32, 0.4914), (64, 0.4802), (96, 0.5), (8, 0.485), (224, 0.485)])
def test_normalization(size, expected):
    images = noise(2, size, size)
    mean, std = normalization("any", size)
    assert mean[0] == expected
    theirs = tv.normalize(evaluate_view(images, size=size, normalize=PLAIN), list(mean), list(std))
    assert_close(evaluate_view(images, size=size, normalize=(mean, std)), theirs)


# Laws of the draws


@pytest.mark.parametrize("recipe", ["simclr", "moco2", "swav_small"])
@pytest.mark.parametrize("height,width", [(100, 100), (60, 200)])
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
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= [height, width]).all()


@pytest.mark.parametrize("height,width", [(4, 40), (40, 4), (7, 9)])
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
        assert len(counts) == 9 and stats.chisquare(counts).pvalue > 1e-3


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
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("recipe,rate", [("simclr", 0.2), ("moco1", 0.2), ("simsiam_dogo", 1 - 0.8**2), ("weak", 0.0)])
def test_grey_rate(recipe, rate):
    """DoGo's SimSiam has two independent chances of 0.2, neither bound to the jitter's 0.8."""
    grey = int(is_grey(RECIPES[recipe], draws(recipe)).sum())
    assert stats.binomtest(grey, COUNT, rate).pvalue > 1e-3


@pytest.mark.parametrize("recipe,rate", [("byol1", 0.0), ("byol2", 0.2)])
def test_solarize_rate(recipe, rate):
    """White images: solarised ones are black, whatever the crop; jitter only darkens white."""
    count = 600
    white = torch.full((count, 3, 6, 6), 255, dtype=torch.uint8)
    solarized = int((view(white, recipe, size=6).amax((1, 2, 3)) <= 0.5).sum())
    assert stats.binomtest(solarized, count, rate).pvalue > 1e-3


@pytest.mark.parametrize("recipe,rate", [("moco1", 1.0), ("simclr", 0.8), ("weak", 0.0)])
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
    assert numbers.min() >= 0 and numbers.max() < 1
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


# Independence of the batch


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("height,width,size", [(32, 32, 32), (21, 37, 12), (9, 5, 19)])
def test_a_view_does_not_depend_on_its_batch(recipe, height, width, size):
    images = noise(23, height, width)
    whole = view(images, recipe, size=size)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    assert torch.equal(view(images[order], recipe, indices=order, size=size), whole[order])
    assert torch.equal(view(images[4:11], recipe, indices=range(4, 11), size=size), whole[4:11])
    for k in (0, 7, 22):
        assert torch.equal(view(images[k : k + 1], recipe, indices=[k], size=size), whole[k : k + 1])


def test_neither_threads_nor_chunks_matter(monkeypatch):
    images = noise(9, 230, 226)
    whole = view(images, "byol1", size=224)
    torch.set_num_threads(2)
    assert torch.equal(view(images, "byol1", size=224), whole)
    monkeypatch.setattr("raydistill.data.augment._CACHE_BYTES", 1)
    assert torch.equal(view(images, "byol1", size=224), whole)


def test_images_of_several_sizes():
    images = [noise(1, height, width)[0] for height, width in [(32, 32), (9, 50), (61, 20), (32, 32)]]
    whole = view(images, "moco2")
    for k, image in enumerate(images):
        assert torch.equal(view(image[None], "moco2", indices=[k])[0], whole[k])
    assert torch.equal(view([images[0], images[3]], indices=[0, 3]), whole[[0, 3]])


def test_replay_and_what_changes_a_view():
    images = noise(6, 16, 16)
    base = view(images, indices=[7] * 6)
    assert torch.equal(view(images, indices=[7] * 6), base)
    for change in ({"draw": 1}, {"seed": 1}, {"epoch": 1}, {"indices": [8] * 6}, {"recipe": "byol2"}):
        assert not torch.equal(view(images, **{"indices": [7] * 6, **change}), base)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["byol2", "simclr", "eval"])
def test_cuda_agrees_with_cpu(recipe):
    images = noise(16, 32, 32)
    settings_ = {"size": 24, "seed": 0, "epoch": 0, "normalize": PLAIN}
    cuda = augment(images, range(16), View(recipe, 0), device="cuda", **settings_)
    # Solarisation jumps at 0.5, so that a difference in the last bit can show in single pixels.
    assert (cuda.cpu() - augment(images, range(16), View(recipe, 0), **settings_)).abs().mean() < 1e-5


def test_form_of_the_result():
    images = noise(3, 16, 16)
    before = images.clone()
    out = view(images, "simclr", size=20)
    assert out.shape == (3, 3, 20, 20) and out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    assert view(images, "swav_small", size=28).shape == (3, 3, 12, 12)
    assert view(images[:0], "simclr", size=20).shape == (0, 3, 20, 20)
    assert torch.equal(view(images, "eval"), evaluate_view(images, size=24, normalize=PLAIN))


def test_blur_of_dogos_recipes_starts_at_224():
    sharp = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    sharp[..., 4:] = 255
    sharp = sharp.repeat_interleave(28, 2).repeat_interleave(28, 3)
    for recipe in ("simclr", "simsiam_dogo"):
        assert RECIPES[recipe].blur_min_size == 224 and RECIPES[recipe].blur_p == 0.5
    RECIPES["late_blur"] = AugmentationRecipe(scale=(1, 1), ratio=(1, 1), flip_p=0, blur_p=1.0, blur_min_size=224)
    try:
        assert_close(view(sharp[:2, :, ::2, ::2], "late_blur", size=112), sharp[:2, :, ::2, ::2] / 255, 1e-6)
        assert (view(sharp[:2], "late_blur", size=224) - sharp[:2] / 255).abs().max() > 0.1
    finally:
        del RECIPES["late_blur"]


@pytest.mark.parametrize(
    "images,indices,recipe,words",
    [
        (noise(2, 8, 8), [0, 1], "simlcr", "simlcr.*simclr"),
        (noise(2, 8, 8), [0], "simclr", "2 images with 1 indices"),
        (noise(2, 8, 8).float(), [0, 1], "simclr", "float32.*uint8"),
        (noise(2, 8, 8)[:, :1], [0, 1], "simclr", r"\(2, 1, 8, 8\).*uint8"),
        ([noise(1, 8, 8)[0], torch.zeros(8, 8, dtype=torch.uint8)], [0, 1], "simclr", r"\(8, 8\)"),
    ],
)
def test_what_is_refused(images, indices, recipe, words):
    with pytest.raises(ValueError, match=words):
        view(images, recipe, indices=indices)


def test_images_too_small_to_normalise_are_refused():
    with pytest.raises(ValueError, match=r"digits.*3 px"):
        normalization("digits", 3)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    size=st.integers(4, 40),
    recipe=st.sampled_from(sorted(RECIPES)),
    fill=st.sampled_from([None, 0, 255]),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_image_gives_finite_values_in_range(height, width, size, recipe, fill, seed):
    images = noise(3, height, width, seed % 97)
    if fill is not None:
        images.fill_(fill)
    out = view(images, recipe, size=size, seed=seed, indices=[0, 2**40, seed])
    assert torch.isfinite(out).all()
    assert out.min() >= -1e-5 and out.max() <= 1 + 1e-5

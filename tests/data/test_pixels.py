"""Pixel operations and the views of evaluation are torchvision's, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.views import CPU, PLAIN, assert_close, draws, noise, planes_of
from torchvision.transforms.v2 import functional as tv

from raydistill.data.views import colours, pixels
from raydistill.data.views.augment import crop_boxes, evaluate_view, jitter_parameters, normalization
from raydistill.data.views.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("height", "width", "size"), [(40, 33, 32), (8, 8, 32), (90, 70, 24), (32, 32, 32), (5, 200, 16)]
)
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


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (8, 8, 32), (70, 50, 96), (300, 201, 112), (40, 60, 224)]
)
def test_evaluation_view_equals_torchvision(height, width, size):
    images = noise(2, height, width)
    floats = images.double() / 255
    if size <= 96:
        theirs = tv.resize(floats, [size, size], antialias=True)
    else:
        theirs = tv.center_crop(tv.resize(floats, [size * 256 // 224], antialias=True), [size, size])
    assert_close(evaluate_view(images, size=size, normalize=PLAIN), theirs)


@pytest.mark.parametrize(
    ("place", "reference", "low", "high"),
    [
        (colours.BRIGHTNESS, tv.adjust_brightness, 0.2, 1.8),
        (colours.CONTRAST, tv.adjust_contrast, 0.2, 1.8),
        (colours.SATURATION, tv.adjust_saturation, 0.2, 1.8),
        (colours.HUE, tv.adjust_hue, -0.5, 0.5),
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
        assert_close(ours[:, k], theirs, 1e-4 if place == colours.HUE else 1e-5)


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
    floats = images.float() / 255
    assert_close(pixels.greyscale(planes_of(images)).transpose(0, 1), tv.rgb_to_grayscale(floats, 3))
    assert_close(pixels.solarize(planes_of(images)).transpose(0, 1), tv.solarize(images, 128).float() / 255)


@pytest.mark.parametrize(("size", "kernel"), [(4, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_blur_equals_torchvision(size, kernel):
    images = noise(3, size, size)
    sigma = np.array([0.1, 0.7, 2.0])
    ours = pixels.blur(planes_of(images), sigma)
    assert pixels.blur_size(size) == kernel
    for k in range(3):
        assert_close(ours[:, k], tv.gaussian_blur(images[k].double() / 255, [kernel] * 2, [sigma[k]]))


@pytest.mark.parametrize(("size", "expected"), [(32, 0.4914), (64, 0.4802), (96, 0.5), (8, 0.485), (224, 0.485)])
def test_normalization(size, expected):
    images = noise(2, size, size)
    mean, std = normalization("any", size)
    assert mean[0] == expected
    theirs = tv.normalize(evaluate_view(images, size=size, normalize=PLAIN), list(mean), list(std))
    assert_close(evaluate_view(images, size=size, normalize=(mean, std)), theirs)


def test_images_of_several_sizes_are_resampled_by_the_hosts_threads_beside_a_gpu(monkeypatch):
    """A GPU would take them one by one, with dozens of launches for each."""
    images = [noise(1, height, width)[0] for height, width in ((40, 33), (50, 60), (120, 90))]
    shapes = np.array([image.shape[-2:] for image in images])
    rows, columns = pixels.centre(shapes, 32)
    flip = np.array([True, False, True])
    here = pixels.resample(images, rows, columns, 32, flip, CPU)
    seen, honest = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *given, **how: seen.append(tensor) or honest(tensor, *given))
    there = pixels.resample(images, rows, columns, 32, flip, torch.device("meta"))
    assert there.device.type == "meta"
    assert len(seen) == 1, "one copy to the device"
    assert torch.equal(seen[0], here), "to the last bit"

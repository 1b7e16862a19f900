"""The CPU's kernels and torch's operations, which a GPU runs, make the same pixels to the last bit."""

from __future__ import annotations

import sys

import numba
import numpy as np
import pytest
import torch
from helpers.views import noise, view
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data.views import kernels, pixels

SIDES = st.integers(4, 40)
SEEDS = st.integers(0, 2**32 - 1)
CASES = settings(max_examples=40, deadline=None)


def drawn(seed: int, size: int, count: int = 5) -> tuple[np.random.Generator, torch.Tensor, np.ndarray]:
    """Chance, planes whose values reach a little over both ends, and the places of some of the images."""
    rng = np.random.default_rng(seed)
    planes = torch.from_numpy(rng.uniform(-0.05, 1.05, (3, count, size, size)).astype(np.float32))
    planes[:, 0] = planes[:1, 0]  # grey: no hue
    return rng, planes, np.flatnonzero(rng.random(count) < 0.6)


@CASES
@given(SEEDS, SIDES, st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_resample(seed, size, height, width, inside):
    rng = np.random.default_rng(seed)
    images = noise(4, height, width, seed)
    windows = []
    for extent in (height, width):
        length = rng.integers(1, extent + 1, 4)
        start = rng.integers(0, extent - length + 1) if inside else rng.integers(-3, extent, 4)
        windows.append(pixels.box(start, length, size))
    flip = rng.random(4) < 0.5
    theirs = pixels._resample(images, *windows, size, flip)
    assert torch.equal(pixels.resample(images, *windows, size, flip, torch.device("cpu")), theirs)
    # As files are decoded: each its own tensor, channels last.
    apart = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
    assert torch.equal(pixels.resample(apart, *windows, size, flip, torch.device("cpu")), theirs)


@CASES
@given(SEEDS, SIDES)
def test_jitter(seed, size):
    rng, planes, who = drawn(seed, size)
    factors = np.column_stack([rng.uniform(0, 2.5, (len(who), 3)), rng.uniform(-0.5, 0.5, len(who))])
    order = rng.random((len(who), 4)).argsort(1)
    theirs = pixels._changed(planes.clone(), who, lambda part: pixels._jitter(part, factors, order))
    assert torch.equal(pixels.jitter(planes, factors, order, who), theirs)


@CASES
@given(SEEDS, SIDES, st.data())
def test_blur(seed, size, data):
    rng, planes, who = drawn(seed, size)
    reach = data.draw(st.integers(1, size - 1))
    sigma = rng.uniform(0.1, 5, len(who))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdims=True))[:, reach:].astype(np.float32)
    theirs = pixels._changed(planes.clone(), who, lambda part: pixels._blur(part, weights))
    assert torch.equal(pixels.blur(planes, sigma, reach, who), theirs)


@CASES
@given(SEEDS, SIDES)
def test_greyscale_and_normalisation(seed, size):
    rng, planes, who = drawn(seed, size)
    theirs = pixels._changed(planes.clone(), who, lambda part: pixels.to_greyscale(part).expand_as(part))
    assert torch.equal(pixels.greyscale(planes, who), theirs)
    mean, std = rng.uniform(0, 1, 3), rng.uniform(0.1, 1, 3)
    out = torch.empty(planes.shape[1], 3, size, size, memory_format=torch.channels_last)
    pixels.normalized(planes, tuple(mean), tuple(std), out)
    for channel in range(3):
        theirs = (planes[channel] - float(mean[channel])) / float(std[channel])
        assert torch.equal(out[:, channel], theirs)


def test_images_that_were_not_chosen_stay():
    _, planes, _ = drawn(0, 12)
    before, who = planes.clone(), np.array([1, 3])
    pixels.jitter(planes, np.full((2, 4), 0.4), np.array([[0, 1, 2, 3]] * 2), who)
    pixels.greyscale(planes, who)
    pixels.blur(planes, np.ones(2), None, who)
    pixels.solarize(planes, who)
    others = [0, 2, 4]
    assert torch.equal(planes[:, others], before[:, others])
    assert (planes[:, who] != before[:, who]).any()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_machine_without_numba_makes_the_same_views(monkeypatch, caplog, mixed):
    images = noise(9, 30, 40) if not mixed else [noise(1, 20 + 9 * k, 90 - 5 * k)[0] for k in range(9)]
    first = view(images, "simclr", size=28)
    monkeypatch.setitem(sys.modules, "raydistill.data.views.kernels", None)
    monkeypatch.delattr("raydistill.data.views.kernels")
    pixels._compiled.cache_clear()
    try:
        assert torch.equal(view(images, "simclr", size=28), first)
    finally:
        pixels._compiled.cache_clear()
    assert "without numba" in caplog.text


def test_a_machine_without_a_place_for_compiled_code_compiles_in_each_process(monkeypatch):
    honest = numba.njit

    def refusing(*, cache: bool = False, **options: object):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return honest(**options)

    monkeypatch.setattr(numba, "njit", refusing)
    twice = kernels._compiled(lambda value: value + value)
    assert twice(21) == 42


def test_kernels_let_go_of_pythons_lock_and_round_as_torch_does():
    for kernel in (kernels.resample, kernels.jitter, kernels.blur, kernels.greyscale, kernels.normalized):
        assert kernel.targetoptions["nogil"], "threads of images would wait for each other"
        assert not kernel.targetoptions.get("fastmath"), "other bits than on a GPU"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 225, 1000])
def test_mean_by_halving(count):
    values = np.random.default_rng(count).random(count).astype(np.float32)
    theirs = pixels._mean(torch.from_numpy(values)[None, None])
    assert kernels._mean(values, np.empty(count, np.float32)) == theirs.item()

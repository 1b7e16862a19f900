"""AutoAugment and Cutout: torchvision's numbers, chance by address, holes of the right size; relative patches."""

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from raydistill.data.views.augment import View, augment
from raydistill.data.views.autoaugment import autoaugment, cutout
from raydistill.data.views.recipes import RECIPES

IDENTITY = ((0.0,) * 3, (1.0,) * 3)


def images(count=4, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def draw(view, size=16, indices=None, batch=None, **changes):
    batch = images() if batch is None else batch
    indices = range(len(batch)) if indices is None else indices
    settings = {"size": size, "seed": 0, "epoch": 0, "normalize": IDENTITY, **changes}
    return augment(batch, list(indices), view, **settings)


@pytest.mark.parametrize("policy", range(25))
def test_every_sub_policy_is_torchvisions(policy, monkeypatch):
    batch = images(1)
    planes = batch.permute(1, 0, 2, 3).float() / 255
    signs = np.array([[0.2, 0.7]])
    reference = AutoAugment(AutoAugmentPolicy.CIFAR10)
    monkeypatch.setattr(
        reference, "get_params", lambda n: (policy, torch.zeros(2), torch.tensor([0, 1])), raising=False
    )
    autoaugment(planes, np.array([(policy + 0.5) / 25]), np.zeros((1, 2)), signs)
    expected = reference(batch[0]).float() / 255
    torch.testing.assert_close(planes[:, 0], expected, rtol=0, atol=1e-6)


def test_an_operation_that_is_not_drawn_changes_nothing():
    batch = images(3)
    planes = batch.permute(1, 0, 2, 3).float() / 255
    before = planes.clone()
    autoaugment(planes, np.full(3, 0.4), np.ones((3, 2)), np.zeros((3, 2)))
    torch.testing.assert_close(planes, before, rtol=0, atol=1e-6)


def test_an_image_is_augmented_alike_in_any_batch():
    batch, view = images(4), View("cifar_auto", 0)
    together = draw(view, batch=batch)
    alone = draw(view, batch=batch[2:3], indices=[2])
    assert torch.equal(together[2:3], alone)
    assert not torch.equal(draw(view, batch=batch, epoch=1), together)


def test_holes_are_half_a_side_and_cut_at_the_borders():
    ones = torch.ones(2, 3, 16, 16)
    cutout(ones, np.array([[0.5, 0.5], [0.0, 0.0]]), 0.5)
    assert (ones[0] == 0).sum() == 3 * 8 * 8
    assert not ones[0, :, 4:12, 4:12].any()
    assert (ones[1] == 0).sum() == 3 * 4 * 4
    assert not ones[1, :, :4, :4].any()


def test_the_recipe_has_one_hole_for_all_channels():
    white = torch.full((8, 3, 32, 32), 255, dtype=torch.uint8)
    drawn = draw(View("cifar_auto", 0), size=32, batch=white, normalize=((0.5,) * 3, (0.5,) * 3))
    holes = (drawn == 0).all(1).flatten(1).sum(1)
    assert ((holes >= 8 * 8) & (holes <= 16 * 16)).all()


@pytest.mark.parametrize(("size", "expected"), [(224, 96), (32, 14), (12, 5)])
def test_small_patches_scale_with_the_image(size, expected):
    batch = images(2, 32)
    assert draw(View("swav_small", 0), size=size, batch=batch).shape == (2, 3, expected, expected)


def test_clusterfit_always_jitters():
    recipe = RECIPES["clusterfit"]
    assert (recipe.jitter, recipe.jitter_p, recipe.gray_p, recipe.blur_p) == ((0.4, 0.4, 0.4, 0.2), 1.0, 0.0, 0.0)


def test_the_small_recipe_is_mocov2s_without_blur_below_224_pixels():
    from dataclasses import replace

    assert replace(RECIPES["small"], blur_min_size=0) == RECIPES["moco2"]
    assert RECIPES["small"].blur_min_size == 224

"""Mixup, CutMix and erasing by hand and against timm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import mixup_target

from raydistill.evaluation.mixing import erased, mixed, soft_targets


class Fixed:
    """A generator whose shares are all 0.75."""

    def beta(self, a, b):
        return 0.75


def test_mixup_by_hand():
    """0.75 * 0 + 0.25 * 8 = 2, and 0.75 * 8 + 0.25 * 0 = 6."""
    images = torch.tensor([0.0, 8.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    found, targets = mixed(images, torch.eye(2), Fixed(), mixup=0.8, cutmix=0.0)
    assert found[0].unique().tolist() == [2]
    assert found[1].unique().tolist() == [6]
    assert targets.tolist() == [[0.75, 0.25], [0.25, 0.75]]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)]))
def test_targets_stay_probabilities_and_say_what_is_seen(seed, count, strengths):
    """Image i has the value i everywhere, so that its mean is that of the values by the shares of its target."""
    values = torch.arange(float(count))
    images = values.view(-1, 1, 1, 1).expand(count, 3, 7, 7)
    mixup, cutmix = strengths
    found, targets = mixed(images, torch.eye(count), np.random.default_rng(seed), mixup=mixup, cutmix=cutmix)
    torch.testing.assert_close(targets.sum(1), torch.ones(count))
    torch.testing.assert_close(found.mean((1, 2, 3)), targets @ values)
    if not mixup:
        assert torch.equal(found, found.round()), "CutMix adds no pixels"


def test_both_are_used_half_of_the_time():
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    made = [mixed(images, torch.eye(2), np.random.default_rng(s), mixup=0.8, cutmix=1.0)[0] for s in range(400)]
    cut = sum(torch.equal(each, each.round()) for each in made)
    assert 150 < cut < 250


def test_nothing_is_mixed_where_neither_is_asked_for():
    images, targets = torch.rand(4, 3, 5, 5), torch.eye(4)
    found = mixed(images, targets, np.random.default_rng(0), mixup=0.0, cutmix=0.0)
    assert found[0] is images
    assert found[1] is targets


def test_smoothed_and_mixed_targets_are_timms():
    labels = torch.tensor([2, 0, 1])
    _, found = mixed(torch.zeros(3, 3, 2, 2), soft_targets(labels, 4, 0.1), Fixed(), mixup=1.0, cutmix=0.0)
    torch.testing.assert_close(found, mixup_target(labels, 4, lam=0.75, smoothing=0.1))


def test_erased_rectangles():
    images = torch.full((400, 3, 20, 20), 9.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = erased(images, np.random.default_rng(0), 0.25)
    assert (images == 9).all(), "the batch itself stays"
    gone = found[:, 0] != 9
    hit = gone.flatten(1).any(1)
    assert 70 < hit.sum() < 130
    for hole in gone[hit]:
        rows, columns = hole.any(1).sum().item(), hole.any(0).sum().item()
        assert hole.sum() == rows * columns, "a rectangle"
        assert 0.01 < rows * columns / 400 < 0.37, "2 % to a third of the image, rounded to pixels"
    noise = found[found != 9]
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert erased(images, np.random.default_rng(0), 0.0) is images

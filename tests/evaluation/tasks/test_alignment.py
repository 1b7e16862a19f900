"""Alignment, uniformity and D: by hand, over all pairs one by one, what changes them, and on real images."""

import logging
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.special import ive
from torch import nn

from raydistill import config
from raydistill.data.sources import load_dataset
from raydistill.evaluation.tasks import alignment
from raydistill.evaluation.tasks.alignment import alignment_scores, mean_square_distance, on_sphere, uniformity
from raydistill.evaluation.tasks.base import Subject, TaskError, run_tasks

CPU = torch.device("cpu")
METRICS = {"test_alignment", "test_uniformity", "test_alignment_random", "test_alignment_difference"}


def drawn(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dim, seed):
    return torch.linalg.qr(drawn(dim, dim, seed)).Q


def subject(encoder, **eval_settings):
    settings = config.load({"method": "simclr", "data": {"limit": 60, "image_size": 8}, "eval": eval_settings})
    return Subject(encoder, load_dataset(settings.data), settings, CPU)


def test_three_points_by_hand():
    """Views at 0, 90 and 180 degrees of a circle, whose other views are at 0, 0 and 270 degrees, of any length.

    Positive pairs are 0, 90 and 90 degrees apart: squared distances 0, 2 and 2, mean 4/3. Pairs of the first view
    are 90, 180 and 90 degrees apart: 2, 4 and 2, mean 8/3. So D = 4/3, and the uniformity is
    log((2 exp(-4) + exp(-8)) / 3) = log(0.0123222...) = -4.39634...
    """
    first = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-2.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, -7.0]])
    found = alignment_scores(first, second)
    assert set(found) == METRICS
    assert found["test_alignment"] == pytest.approx(4 / 3, abs=1e-12)
    assert found["test_alignment_random"] == pytest.approx(8 / 3, abs=1e-12)
    assert found["test_alignment_difference"] == pytest.approx(4 / 3, abs=1e-12)
    assert found["test_uniformity"] == pytest.approx(-4.39634, abs=1e-5)


def test_opposite_points_are_the_least_that_uniformity_can_be():
    """Two points: one pair, d^2 = 4, so log exp(-2 * 4) = -8; and the mean squared distance is 4."""
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = alignment_scores(first, first)
    assert found == pytest.approx(
        {"test_alignment": 0, "test_uniformity": -8, "test_alignment_random": 4, "test_alignment_difference": 4}
    )


@pytest.mark.parametrize("chunk", [2**22, 300, 1])
@pytest.mark.parametrize("shape", [(2, 5), (101, 16), (30, 1)])
def test_it_is_that_of_all_pairs_one_by_one(shape, chunk, monkeypatch):
    """Plain loops over pairs, and the formulas of Wang and Isola's code on scipy's distances."""
    monkeypatch.setattr(alignment, "CHUNK_NUMBERS", chunk)
    first, second = drawn(*shape) + 0.5, drawn(*shape, 1)
    found = alignment_scores(first.float(), second.float())
    one, other = (each.numpy() / np.linalg.norm(each.numpy(), axis=1, keepdims=True) for each in (first, second))
    squares = [float(((one[i] - one[j]) ** 2).sum()) for i, j in combinations(range(len(one)), 2)]
    positive = np.mean([float(((a - b) ** 2).sum()) for a, b in zip(one, other, strict=True)])
    assert found["test_alignment"] == pytest.approx(positive, abs=1e-6)
    assert found["test_alignment_random"] == pytest.approx(np.mean(squares), abs=1e-6)
    assert found["test_alignment_difference"] == pytest.approx(np.mean(squares) - positive, abs=1e-6)
    assert found["test_uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * pdist(one) ** 2))), abs=1e-6)


@pytest.mark.parametrize("count", [30, 50, 301])
def test_points_spread_on_a_circle(count):
    """By an integral: the mean of exp(-2 d^2) over equal steps of a whole circle is exp(-4) I0(4), I0 of Bessel.

    That mean counts each point with itself, which is 1 of `count` pairs, and its distance is 0.
    """
    angles = torch.arange(count, dtype=torch.float64) * 2 * math.pi / count
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    wanted = (count * ive(0, 4) - 1) / (count - 1)
    assert -uniformity(rows) == pytest.approx(-math.log(wanted), abs=1e-9)
    assert mean_square_distance(rows) == pytest.approx(2 * count / (count - 1))
    half = torch.stack([(angles / 2).cos(), (angles / 2).sin()], 1)
    assert -uniformity(half) < -uniformity(rows)


def test_many_equal_points_and_a_large_sharpness_do_not_underflow():
    """exp(-2000 * 4) is 0 in float64, but its logarithm is a number."""
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), 2000.0) == pytest.approx(-8000)
    assert uniformity(on_sphere(torch.ones(500, 3))) == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**16))
def test_rotations_lengths_and_the_order_of_the_images_change_nothing(count, dim, seed):
    first, second = drawn(count, dim, seed), drawn(count, dim, seed + 1)
    wanted = alignment_scores(first, second)
    turn = rotation(dim, seed + 2)
    lengths = drawn(count, 1, seed + 3).mul(5).exp()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert alignment_scores(first @ turn, second @ turn) == pytest.approx(wanted, abs=1e-9)
    assert alignment_scores(first * lengths, second / lengths) == pytest.approx(wanted, abs=1e-9)
    assert alignment_scores(first[order], second[order]) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**16))
def test_scores_stay_within_their_bounds(count, dim, seed):
    found = alignment_scores(drawn(count, dim, seed), drawn(count, dim, seed + 1))
    assert 0 <= found["test_alignment"] <= 4 + 1e-9
    assert 0 <= found["test_alignment_random"] <= 2 * count / (count - 1) + 1e-9
    assert -8 - 1e-9 <= found["test_uniformity"] <= 1e-9
    # The exponential is convex: the mean of exp(-2 d^2) is at least exp of the mean.
    assert found["test_uniformity"] >= -2 * found["test_alignment_random"] - 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_small_and_very_large_features_are_scaled_too(scale):
    rows = drawn(5, 4).float()
    assert on_sphere(rows * scale).norm(dim=1).tolist() == pytest.approx([1] * 5)
    assert on_sphere(torch.zeros(2, 4)).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (torch.ones(1, 3), torch.ones(1, 3), r"shape \(1, 3\); expected \(N, D\) of at least 2 images"),
        (torch.ones(4), torch.ones(4), r"shape \(4,\)"),
        (torch.ones(3, 2), torch.ones(2, 2), r"shapes \(3, 2\) and \(2, 2\); they must agree"),
        (torch.tensor([[1.0], [math.nan], [math.inf]]), torch.ones(3, 1), "2 of 3 images are not finite"),
    ],
)
def test_useless_features_are_refused(first, second, said):
    with pytest.raises(TaskError, match=said):
        alignment_scores(first, second)


class Noting(nn.Module):
    """Gives the pixels, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.flatten(1).clone())
        return self.seen[-1]


def test_the_test_images_are_seen_twice_cropped_apart_and_need_no_labels():
    network = Noting()
    given = subject(network)
    count = len(given.dataset.test)
    found = alignment.score(given)
    assert found.pictures == {}
    seen = torch.cat(network.seen)
    assert len(seen) == 2 * count
    one, other = (each.double() / each.double().norm(dim=1, keepdim=True) for each in seen.split(count))
    apart = (one - other).square().sum(1)
    assert (apart > 1e-4).double().mean() > 0.9
    assert found.scores["test_alignment"] == pytest.approx(apart.mean().item(), abs=1e-6)
    squares = pdist(one.numpy()) ** 2
    assert found.scores["test_uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * squares))), abs=1e-6)
    assert found.scores["test_alignment_random"] == pytest.approx(squares.mean(), abs=1e-6)
    given.dataset.test.labels = None
    assert alignment.score(given).scores == found.scores


def test_a_network_that_tells_nothing_apart_has_0_everywhere():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 4)

    assert alignment.score(subject(Constant())).scores == pytest.approx(dict.fromkeys(METRICS, 0.0), abs=1e-12)


def test_a_network_without_finite_features_is_left_out_with_a_warning(caplog):
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 4), math.nan)

    with caplog.at_level(logging.WARNING):
        assert run_tasks(subject(Broken(), tasks=["alignment"])).scores == {}
    assert "task alignment is left out: features of" in caplog.text
    assert set(run_tasks(subject(Noting(), tasks=["alignment"])).scores) == METRICS

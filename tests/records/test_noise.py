"""How exact validation scores are, against the binomial distribution itself."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raydistill.records.noise import describe, near_best, spread, standard_error

SHARES = st.floats(0, 1)
IMAGES = st.integers(1, 100_000)


@given(IMAGES, st.data())
def test_the_standard_error_is_that_of_a_binomial_share(images, data):
    share = data.draw(st.integers(0, images)) / images
    found = standard_error("val_knn", share, images)
    assert found == pytest.approx(stats.binom(images, share).std() / images, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "value", "images"),
    [("loss", 0.5, 100), ("val_mse", 0.5, 100), ("student_parameters", 0.5, 100), ("val_knn", 0.5, None)],
)
def test_what_is_no_share_of_known_images_has_none(metric, value, images):
    assert standard_error(metric, value, images) is None
    assert near_best(metric, [value, value], images) == 1
    assert describe(metric, [value, value], images) == ""


def test_errors_of_nan_and_of_no_trial_are_unknown():
    assert standard_error("val_knn", math.nan, 100) is None
    assert near_best("val_knn", [], 100) == 0
    assert describe("val_knn", [], 100) == ""


@given(st.lists(SHARES, min_size=1), IMAGES)
def test_the_near_equals_are_the_first_ones_and_within_one_error(values, images):
    values = sorted(values, reverse=True)
    number, error = near_best("val_knn", values, images), standard_error("val_knn", values[0], images)
    assert 1 <= number <= len(values)
    assert values[0] - values[number - 1] <= error
    assert all(values[0] - value > error for value in values[number:])
    assert near_best("val_knn", values, images) <= near_best("val_knn", values, max(images // 4, 1))


def test_of_a_mean_over_seeds_only_the_part_of_the_seeds_is_divided():
    """Against networks that miss images at random, each with its own chance for all networks."""
    generator = np.random.default_rng(0)
    images, seeds = 200, 3
    chances = generator.beta(2, 1, (4000, images, 1))
    scores = (generator.random((4000, images, seeds)) < chances).mean(axis=1)
    share = float(scores.mean())
    error = standard_error("val_knn", share, images, scores[:1000].tolist())
    assert error == pytest.approx(scores.mean(axis=1).std(), rel=0.03)
    assert error < 0.95 * standard_error("val_knn", share, images)


def test_seeds_that_differ_more_than_images_explain_are_counted_whole():
    assert standard_error("val_knn", 0.5, 10_000, [[0.4, 0.6], [0.4, 0.6]]) == pytest.approx(0.1)
    assert standard_error("val_knn", 0.5, 100, [[0.5, 0.5]]) == pytest.approx(0.05)
    assert standard_error("val_knn", 0.5, 100, [[], []]) == standard_error("val_knn", 0.5, 100)


def test_the_spread_pools_what_has_several_seeds():
    # Variances 0.0001 and 0.0004 with 1 and 2 degrees of freedom.
    two, three = [0.9, 0.9 + math.sqrt(2e-4)], [0.8, 0.82, 0.84]
    assert spread([two, three, [0.1]]) == pytest.approx(math.sqrt((1 * 1e-4 + 2 * 4e-4) / 3))
    assert spread([[0.1], []]) is None


def test_it_is_said_in_words():
    assert describe("val_knn", [0.9236, 0.92, 0.91, 0.8], 288) == (
        "One run's val_knn has a standard error of 1.6 points (288 validation images); 3 of 4 trials trained to the "
        "end are within one standard error of the best."
    )
    none = "no other trial trained to the end is within one standard error of the best."
    assert describe("val_knn", [0.9236, 0.8], 288).endswith(none)
    alone = "only one trial was trained to the end, so it is compared with none."
    assert describe("val_knn", [0.9236], 288).endswith(alone)


def test_means_over_seeds_are_said_to_be_means():
    text = describe("val_knn", [0.92, 0.8], 288, [[0.91, 0.93], [0.8, 0.8]])
    assert text.startswith(
        "A trial's val_knn, the mean of 2 seeds that vary by 1.0 points, has a standard error of 1.4 points (288 "
    )

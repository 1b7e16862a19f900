"""How exact validation scores are, against the binomial distribution itself."""

import math

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
    assert describe("val_knn", [0.9236, 0.8], 288).endswith("no other trial is within one standard error of the best.")

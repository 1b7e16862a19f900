"""The difference that a number of seeds would have shown."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raydistill.records.intervals import visible


@given(st.floats(1e-4, 0.1), st.integers(3, 8))
def test_the_visible_difference_is_seen_in_four_of_five_cases(std, count):
    """The rule of thumb against the exact power, by the noncentral t distribution."""
    values = np.linspace(-1, 1, count)
    effect = visible(values * std / values.std(ddof=1)) / std * math.sqrt(count)
    power = 1 - stats.nct.cdf(stats.t.ppf(0.975, count - 1), count - 1, effect)
    assert 0.75 < power < 0.9


def test_one_value_shows_nothing():
    assert visible([0.5]) is None
    with pytest.raises(ValueError, match="no values"):
        visible([])

"""The effective rank of features: numpy's, its bounds, and what collapse looks like."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.evaluation.rank import MAX_ROWS, effective_rank


def reference(features):
    """RankMe's equations on centred features, by numpy's singular values in double precision."""
    rows = features.double().numpy()
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = values / np.abs(values).sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("shape", [(200, 16), (16, 200), (30, 30)])
def test_it_is_that_of_numpy(shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu() + 3
    assert effective_rank(features) == pytest.approx(reference(features), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 5, 12])
def test_directions_of_equal_size_count_as_what_they_are(rank):
    """Plus and minus each of some orthogonal directions, far from the origin."""
    directions, _ = torch.linalg.qr(torch.randn(12, rank, generator=torch.Generator().manual_seed(1)))
    features = torch.cat([directions.T, -directions.T]) + 5
    assert effective_rank(features) == pytest.approx(rank, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 20), st.integers(1, 20), st.floats(0.01, 100), st.floats(-10, 10), st.integers(0, 2**16))
def test_it_stays_within_its_bounds_whatever_the_scale_and_the_mean(count, dim, scale, shift, seed):
    features = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = effective_rank(features)
    assert 1 - 1e-6 <= found <= min(count - 1, dim) + 1e-6
    assert effective_rank(features * scale + shift) == pytest.approx(found, rel=1e-4)


def test_collapse_is_0_and_a_line_is_1():
    point = torch.full((50, 8), 0.3) + torch.rand(50, 8, generator=torch.Generator().manual_seed(0)) * 1e-8
    assert effective_rank(point) == 0
    assert effective_rank(torch.zeros(50, 8)) == 0
    line = torch.arange(50.0)[:, None] * torch.arange(1.0, 9.0)
    assert effective_rank(line) == pytest.approx(1, abs=1e-4)


def test_only_the_first_rows_of_many_count():
    features = torch.randn(MAX_ROWS + 100, 3, generator=torch.Generator().manual_seed(0))
    other = features.clone()
    other[MAX_ROWS:] = 7
    assert effective_rank(features) == effective_rank(other)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (torch.tensor([[1.0, float("nan")], [1.0, 2.0]]), "1 rows of features are not finite"),
        (torch.zeros(3), r"\(3,\)"),
    ],
)
def test_useless_features_are_refused(features, said):
    with pytest.raises(ValueError, match=said):
        effective_rank(features)

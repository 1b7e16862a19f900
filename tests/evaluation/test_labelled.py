"""Shares of labels and labels that are drawn anew, counted."""

import pytest
import torch
from helpers.builders.datafiles import opened, save
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data.images import DataError
from raydistill.evaluation.labelled import check_labels, redrawn, shares


def test_shares_by_hand():
    """10 images of class 0, 4 of class 1 and 1 of class 2: 10 % are 1, 0.4 and 0.1 images, 50 % are 5, 2 and 0.5."""
    labels = torch.tensor([0] * 10 + [1] * 4 + [2])
    found = shares(labels, (10, 50, 100), seed=0)
    assert {percent: labels[rows].bincount().tolist() for percent, rows in found.items()} == {
        10: [1, 1, 1],
        50: [5, 2, 1],
        100: [10, 4, 1],
    }
    assert found[100].tolist() == list(range(15))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.lists(st.floats(0.1, 100), min_size=1, max_size=5, unique=True),
    st.integers(0, 100),
)
def test_smaller_shares_lie_in_larger_ones(labels, percents, seed):
    known = torch.tensor(labels)
    found = shares(known, percents, seed)
    before = set()
    for percent in sorted(percents):
        rows = found[percent].tolist()
        assert rows == sorted(set(rows))
        assert before <= set(rows)
        assert set(known[rows].tolist()) == set(labels)
        before = set(rows)
    other = shares(known, list(reversed(percents)), seed)
    assert all(torch.equal(found[percent], other[percent]) for percent in percents)


def test_another_seed_draws_other_images():
    labels = torch.arange(100) % 2
    assert not torch.equal(shares(labels, (10,), 0)[10], shares(labels, (10,), 1)[10])


@pytest.mark.parametrize(("rate", "changed"), [(0, 0), (0.2, 0.18), (0.5, 0.45), (1, 0.9)])
def test_replaced_labels_are_counted(rate, changed):
    """One of ten uniform classes is the old one, so that 9/10 of the rate change; 0.015 are three sigmas and more."""
    labels = torch.arange(10_000) % 10
    found = redrawn(labels, rate, 10, (0, 0))
    assert found.ne(labels).double().mean().item() == pytest.approx(changed, abs=0.015)
    if rate == 1:
        assert found.bincount(minlength=10).double().div(1000).sub(1).abs().max() < 0.1


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_what_a_low_rate_replaces_a_higher_one_replaces_alike(one, other, seed):
    labels = torch.full((200,), 5)
    low, high = (redrawn(labels, rate, 5, (seed, 0)) for rate in sorted((one, other)))
    assert torch.equal(low[low < 5], high[low < 5])


def test_splits_are_drawn_apart():
    labels = torch.arange(1000) % 10
    assert not torch.equal(redrawn(labels, 0.5, 10, (0, 0)), redrawn(labels, 0.5, 10, (0, 1)))
    assert not torch.equal(redrawn(labels, 0.5, 10, (0, 0)), redrawn(labels, 0.5, 10, (1, 0)))


def test_images_without_labels_are_refused(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="the training images have no labels, which this task needs"):
        check_labels(opened(tmp_path))

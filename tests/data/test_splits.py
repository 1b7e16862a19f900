"""Splits: stratified, without overlap, the same for the same seed."""

import numpy as np
import torch
from helpers.builders.datafiles import opened
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.data.images import Raw, apportion, draw, limited
from raydistill.data.splits import divide

label_lists = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(torch.tensor)


@settings(max_examples=200, deadline=None)
@given(label_lists | st.integers(2, 80), st.integers(0, 99), st.floats(0.01, 0.99))
def test_a_draw_is_a_stratified_partition(labels, seed, fraction):
    labels, count = (labels, len(labels)) if isinstance(labels, torch.Tensor) else (None, labels)
    kept, taken = draw(labels, count, (seed, 1), fraction)
    assert sorted([*kept, *taken]) == list(range(count))
    again = draw(labels, count, (seed, 1), fraction)
    assert np.array_equal(kept, again[0])
    classes = np.zeros(count, int) if labels is None else labels.numpy()
    for size, inside in ((np.sum(classes == c), np.sum(classes[taken] == c)) for c in set(classes)):
        assert abs(inside - fraction * size) <= 1.5
        assert (0 < inside < size) or size == 1


@settings(max_examples=200, deadline=None)
@given(label_lists, st.integers(0, 99), st.floats(0.01, 0.99), st.sets(st.sampled_from(["val", "test"])))
def test_no_image_is_in_two_splits(labels, seed, fraction, given_splits):
    def raw(split):
        return Raw(len(labels), lambda i: Image.new("RGB", (4, 4)), lambda i: f"{split}{i}", labels, ())

    parts = divide({split: raw(split) for split in ("train", *given_splits)}, fraction, seed)
    assert set(parts) == {"train", "val", "test"}
    names = [found.name(int(row)) for found, rows in parts.values() for row in rows]
    assert len(names) == len(set(names)) == (1 + len(given_splits)) * len(labels)
    if given_splits:
        assert {found.name(0)[:-1] for found, _ in [parts["test"]]} <= given_splits


@settings(max_examples=200, deadline=None)
@given(label_lists | st.integers(2, 80), st.integers(0, 99), st.integers(1, 100))
def test_limit_keeps_exactly_that_many_in_proportion(labels, seed, limit):
    labels, count = (labels, len(labels)) if isinstance(labels, torch.Tensor) else (None, labels)
    rows = limited(labels, count, (seed, 2), limit)
    assert len(rows) == len(set(rows)) == min(limit, count)
    if labels is not None:
        for label in labels.unique():
            share = float((labels == label).sum()) * len(rows) / count
            assert abs(float((labels[rows] == label).sum()) - share) < 1


def test_apportion_is_hamiltons_method():
    # the textbook example of largest remainders: votes for five parties, ten seats
    votes = np.array([47_000, 16_000, 15_900, 12_000, 6_000, 3_100])
    assert apportion(votes, 10).tolist() == [5, 2, 1, 1, 1, 0]


def test_splits_follow_the_seed_and_the_limit():
    def val(**settings):
        return opened("digits", **settings).val

    assert torch.equal(val().fetch(range(50))[0], val().fetch(range(50))[0])
    assert not torch.equal(val().fetch(range(50))[0], val(split_seed=1).fetch(range(50))[0])
    data = opened("digits", limit=50)
    assert [len(part) for part in (data.train, data.val, data.test)] == [50, 50, 50]
    assert torch.bincount(data.val.labels).min() >= 4

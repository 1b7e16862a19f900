"""Splits: stratified, without overlap, the same for the same seed."""

import numpy as np
import torch
from helpers.builders.datafiles import opened
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.config import DataConfig
from raydistill.data.drawing import apportion, draw, draw_by_name, limited
from raydistill.data.images import Raw
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
@given(
    label_lists,
    st.integers(0, 99),
    st.floats(0.01, 0.99),
    st.sets(st.sampled_from(["val", "test"])),
    st.sampled_from(["draw", "names"]),
)
def test_no_image_is_in_two_splits(labels, seed, fraction, given_splits, how):
    def raw(split):
        return Raw(len(labels), lambda i: Image.new("RGB", (4, 4)), lambda i: f"{split}{i}", labels, (), key=str)

    config = DataConfig(validation_fraction=fraction, split_seed=seed, split=how)
    parts = divide({split: raw(split) for split in ("train", *given_splits)}, config)
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


NAMES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9999)), min_size=2, max_size=120, unique=True)


@settings(max_examples=200, deadline=None)
@given(NAMES, st.integers(0, 99), st.floats(0.05, 0.5))
def test_a_draw_by_name_is_a_partition_whose_order_does_not_matter(images, seed, fraction):
    labels, names = torch.tensor([label for label, _ in images]), [f"{label}/{name}.png" for label, name in images]
    kept, taken = draw_by_name(labels, names, (seed, 1), fraction)
    assert sorted([*kept, *taken]) == list(range(len(images)))
    back = draw_by_name(labels.flip(0), names[::-1], (seed, 1), fraction)[1]
    assert {names[i] for i in taken} == {names[::-1][i] for i in back}
    for label in set(labels.tolist()):
        size, inside = int((labels == label).sum()), int((labels[torch.from_numpy(taken)] == label).sum())
        assert inside <= 1.5 * fraction * size + 1
        assert (0 < inside < size) or size == 1


def test_images_stay_in_their_split_while_a_folder_grows():
    """Of 200 images a class all stay; that of a class of few may change is what keeps one on each side."""

    def held_out(count):
        names = [f"{i % 3}/{i:05}.png" for i in range(count)]
        labels = torch.tensor([i % 3 for i in range(count)])
        kept, taken = draw_by_name(labels, names, (0, 0), 0.2)
        return {names[i] for i in kept}, {names[i] for i in taken}

    (kept, taken), (kept_later, taken_later) = held_out(600), held_out(900)
    assert kept <= kept_later
    assert taken <= taken_later
    assert 0.15 < len(taken_later) / 900 < 0.25


def test_another_seed_holds_out_other_images():
    names = [str(i) for i in range(200)]
    first, second = (set(draw_by_name(None, names, (seed, 0), 0.2)[1].tolist()) for seed in (0, 1))
    assert len(first & second) < 0.6 * len(first)

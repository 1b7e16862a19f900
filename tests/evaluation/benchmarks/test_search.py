"""Average precision against hand-computed cases and numpy's trapezoids; features keep the order of their files."""

import numpy as np
import pytest
import torch
from helpers.builders.retrieved import Colours, paint, subject_of
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.images import BadImageError
from raydistill.evaluation.benchmarks import search
from raydistill.evaluation.benchmarks.search import average_precision, describe, rankings
from raydistill.evaluation.tasks.base import TaskError

RANKED = [3, 1, 0, 2, 4]


def test_average_precision_by_hand():
    """Positives 1 and 2 follow one and three others: (0 + 1/2) / 2 / 2 + (1/3 + 2/4) / 2 / 2 = 1/3."""
    assert average_precision(RANKED, [1, 2]) == pytest.approx(1 / 3)


def test_junk_moves_up_what_follows_it():
    """Without 3, they follow none and two: (1 + 1) / 2 / 2 + (1/2 + 2/3) / 2 / 2 = 19/24."""
    assert average_precision(RANKED, [1, 2], [3]) == pytest.approx(19 / 24)


def test_what_lies_deeper_is_not_found():
    """Of three images only 1 is found: (0 + 1/2) / 2 / 2 = 1/8. Without 3 and 0, three reach 2 right after 1."""
    assert average_precision(RANKED, [1, 2], depth=3) == pytest.approx(1 / 8)
    assert average_precision(RANKED, [1, 2], [3, 0], depth=3) == 1
    assert average_precision(RANKED, [4], depth=4) == 0


@st.composite
def searches(draw):
    """Draw a ranking of up to 12 images, its positives and its junk."""
    ranking = draw(st.permutations(range(draw(st.integers(1, 12)))))
    kinds = draw(st.lists(st.sampled_from("pjn"), min_size=len(ranking), max_size=len(ranking)))
    kinds[draw(st.integers(0, len(ranking) - 1))] = "p"
    return ranking, *([image for image, kind in enumerate(kinds) if kind == each] for each in "pj")


@given(searches())
def test_average_precision_is_the_area_under_the_curve(search_):
    """The curve begins at recall 0 and precision 1, and has a point after each image that is not junk."""
    ranking, positives, junk = search_
    hits = np.cumsum([image in positives for image in ranking if image not in junk])
    recall = np.concatenate([[0], hits / len(positives)])
    precision = np.concatenate([[1], hits / np.arange(1, len(hits) + 1)])
    assert average_precision(ranking, positives, junk) == pytest.approx(np.trapezoid(precision, recall))


@given(searches())
def test_it_is_one_exactly_if_all_positives_come_first(search_):
    ranking, positives, _ = search_
    first = set(ranking[: len(positives)]) == set(positives)
    assert (average_precision(ranking, positives) == pytest.approx(1, abs=1e-9)) == first


@given(searches(), st.data())
def test_junk_never_changes_it(search_, data):
    ranking, positives, _ = search_
    longer = list(ranking)
    for index in range(data.draw(st.integers(0, 5))):
        longer.insert(data.draw(st.integers(0, len(longer))), 100 + index)
    assert average_precision(longer, positives, range(100, 105)) == average_precision(ranking, positives)


def test_rankings_are_by_cosine_and_ties_by_number():
    database = torch.tensor([[0.0, 1.0], [9.0, 0.0], [0.1, 0.0], [1.0, 1.0]])
    assert rankings(torch.tensor([[2.0, 0.0], [0.0, -1.0]]), database).tolist() == [[1, 2, 3, 0], [1, 2, 3, 0]]


def test_features_that_are_no_numbers_are_refused():
    with pytest.raises(TaskError, match="no finite numbers"):
        rankings(torch.tensor([[float("nan"), 1]]), torch.ones(2, 2))


def test_features_have_the_order_of_the_files_whatever_their_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "READ_AHEAD", 7)
    monkeypatch.setattr(search, "BATCH", 2)
    files = [tmp_path / f"{index}.png" for index in range(20)]
    for index, file in enumerate(files):
        paint(file, (10 * index, 0, 0), size=(8 + index % 3, 8))
    encoder = Colours()
    found = describe(encoder, files, lambda image: image, subject_of(encoder, ""))
    assert found[:, 0].mul(0.247).add(0.4914).mul(255).round().tolist() == [10 * index for index in range(20)]
    assert max(shape[0] for shape in encoder.seen) == 2
    assert {shape[2:] for shape in encoder.seen} == {(8, 8), (8, 9), (8, 10)}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    paint(tmp_path / "good.jpg", "red")
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:200])
    with pytest.raises(BadImageError, match=r"bad\.jpg: unreadable image \("):
        describe(Colours(), [tmp_path / "good.jpg", tmp_path / "bad.jpg"], lambda i: i, subject_of(Colours(), ""))

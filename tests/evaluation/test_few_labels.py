"""Scores with few labels: against scikit-learn, their intervals, and when they are made."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from raydistill import config
from raydistill.config import ConfigError, EvalConfig
from raydistill.data.sources import load_dataset
from raydistill.evaluation import few_labels
from raydistill.evaluation.few_labels import DRAWS, counts_of, few_label_scores, interval
from raydistill.evaluation.final import score_encoder
from raydistill.evaluation.online import embed_split
from raydistill.evaluation.references import RawPixels

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    """Pixels and labels of digits: to learn from, and to test."""
    data = load_dataset(config.load({"method": "simclr", "data": {"limit": 400}}).data)
    return tuple(embed_split(RawPixels(), data, split, CPU) for split in (data.train, data.test))


@pytest.fixture
def drawn(monkeypatch):
    """The draws that were made, by the number of labels."""
    draws = {}
    original = few_labels._draws

    def noted(labels, count, seed):
        draws[count] = list(original(labels, count, seed))
        return iter(draws[count])

    monkeypatch.setattr(few_labels, "_draws", noted)
    return draws


def test_they_are_those_of_scikit_learn(digits, drawn):
    (features, labels), (queries, wanted) = digits
    found = few_label_scores(*digits, (1, 5), ks=(1, 2, 4, 8), seed=3)
    mean, std = features.double().mean(0), features.double().std(0, correction=0)
    std[std < 1e-5] = 1.0
    plain, asked = (((each.double() - mean) / std).numpy() for each in (features, queries))
    strength = 20 / features.shape[1]
    for count in (1, 5):
        probes, neighbours = [], []
        for rows in map(torch.Tensor.numpy, drawn[count]):
            assert np.bincount(labels.numpy()[rows]).tolist() == [count] * 10
            probe = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(plain[rows], labels.numpy()[rows])
            probes.append(probe.score(asked, wanted.numpy()))
            nearest = KNeighborsClassifier(1, metric="cosine").fit(features.numpy()[rows], labels.numpy()[rows])
            neighbours.append(nearest.score(queries.numpy(), wanted.numpy()))
        assert found[f"test_probe_{count}_labels"] == pytest.approx(np.mean(probes), abs=0.002)
        if count == 1:
            assert found["test_knn_1_labels"] == pytest.approx(np.mean(neighbours), abs=0.002)
    assert found["test_probe_5_labels"] > found["test_probe_1_labels"] + 0.1 > 0.5


def test_draws_follow_the_seed_and_differ(digits, drawn):
    first, again = (few_label_scores(*digits, (1,), ks=(1,), seed=0) for _ in range(2))
    assert first == again
    rows = {tuple(each.tolist()) for each in drawn[1]}
    assert len(rows) == DRAWS
    few_label_scores(*digits, (1,), ks=(1,), seed=1)
    assert rows != {tuple(each.tolist()) for each in drawn[1]}


def test_numbers_that_some_class_does_not_have_are_left_out():
    features, labels = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 2
    labels[:10] = 0  # 20 of class 0 and 10 of class 1
    found = few_label_scores((features, labels), (features, labels), (1, 5, 20), ks=(1,), seed=0)
    assert {re.sub(r"_(low|high)$", "", name) for name in found} == {
        f"test_{by}_{count}_labels" for by in ("knn", "probe") for count in (1, 5)
    }


def test_classes_that_are_only_tested_or_skipped_do_no_harm():
    features = torch.eye(4).repeat(3, 1)
    train, test = (features, torch.tensor([0, 2, 5, 7] * 3)), (features, torch.tensor([0, 2, 5, 9] * 3))
    found = few_label_scores(train, test, (1, 3), ks=(1,), seed=0)
    assert found["test_knn_3_labels"] == found["test_probe_3_labels"] == found["test_probe_1_labels"] == 0.75


@pytest.mark.parametrize(("right", "images"), [(0, 8), (8, 8), (5, 8), (37, 40), (700, 1000)])
def test_one_draw_has_wilsons_interval(right, images):
    hits = torch.zeros(1, images)
    hits[0, :right] = 1
    reference = binomtest(right, images).proportion_ci(method="wilson")
    assert interval(hits) == pytest.approx((right / images, reference.low, reference.high), abs=1e-9)


def test_draws_that_differ_widen_the_interval():
    same, apart = torch.zeros(10, 100), torch.zeros(10, 100)
    same[:, :50] = 1
    apart[::2, :80] = 1
    apart[1::2, :20] = 1
    (mean, low, high), (other, lower, higher) = interval(same), interval(apart)
    assert mean == other == 0.5
    assert (low, high) == pytest.approx(binomtest(50, 100).proportion_ci(method="wilson"), abs=1e-9)
    assert lower < 0.2 < low < high < 0.8 < higher


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**16), st.floats(0, 1))
def test_the_mean_lies_in_the_interval(draws, images, seed, share):
    hits = (torch.rand(draws, images, generator=torch.Generator().manual_seed(seed)) < share).double()
    mean, low, high = interval(hits)
    assert 0 <= low <= mean <= high <= 1
    assert low < high


def test_most_intervals_hold_the_accuracy_on_new_images():
    """Classifiers of known accuracy, one from each draw of labels, tested on few images."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        accuracies = rng.beta(20, 10, size=10)  # of the draws
        hits = torch.from_numpy((rng.random((10, 40)) < accuracies[:, None]).astype(float))
        _, low, high = interval(hits)
        held.append(low <= rng.beta(20, 10) <= high)
    assert np.mean(held) > 0.92


@pytest.mark.parametrize(
    ("chosen", "few", "counts"),
    [(None, True, (1, 5, 20)), (None, False, ()), ((3,), False, (3,)), ((), True, ())],
)
def test_they_are_made_where_labels_are_few_or_where_asked_for(chosen, few, counts):
    assert counts_of(EvalConfig(labels_per_class=chosen), few=few) == counts


def test_a_number_below_1_is_refused():
    with pytest.raises(ConfigError, match="every number of labels must be at least 1"):
        config.load({"method": "simclr", "eval": {"labels_per_class": [5, 0]}})


def test_all_scores_come_from_the_labelled_images(cifar10, tmp_path):
    """Images to learn from without any use for scores, and the digits beside them."""
    rows = pq.ParquetFile(cifar10 / "test.parquet").read_row_groups([0], columns=["image"]).slice(0, 120)
    pq.write_table(rows, tmp_path / "photos.parquet")
    wanted = config.load(
        {
            "method": "simclr",
            "data": {"source": str(tmp_path / "photos.parquet"), "labelled": "digits", "limit": 100, "image_size": 8},
            "eval": {"probe": "logistic"},
        }
    )
    alone = config.load({**config.dump(wanted), "data": {"source": "digits", "limit": 100, "image_size": 8}})
    data = load_dataset(wanted.data)
    found = score_encoder(RawPixels(), data, wanted, CPU)
    plain = score_encoder(RawPixels(), load_dataset(alone.data), alone, CPU)
    assert set(plain) == {"val_knn", "test_knn", "val_probe", "test_probe"}
    # The network's input is normalised as for CIFAR-10, which changes what is near.
    assert {name: found[name] for name in plain} == pytest.approx(plain, abs=0.1)
    assert found["test_knn"] > 0.6
    for by in ("knn", "probe"):
        assert found[f"test_{by}_all_labels"] == pytest.approx(found[f"test_{by}"], abs=1e-9)
        low, high = (found[f"test_{by}_all_labels_{end}"] for end in ("low", "high"))
        right = round(found[f"test_{by}"] * 100)
        assert high - low > 0.05
        if by == "probe":
            reference = binomtest(right, 100).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert {name for name in found if name.endswith("_labels")} == {
        f"test_{by}_{count}_labels" for by in ("knn", "probe") for count in (1, 5, "all")
    }

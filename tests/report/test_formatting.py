"""Metrics in words."""

import pytest

from raydistill.report.formatting import axis, heading, label, score, unit


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("val_knn", "validation k-NN accuracy"),
        ("test_knn_20", "test k-NN accuracy, k = 20"),
        ("val_knn_peer_2", "validation k-NN accuracy, peer_2"),
        ("test_knn_1_exit_3", "test k-NN accuracy, k = 1, exit_3"),
        ("val_mse", "validation error of the predicted teacher"),
    ],
)
def test_a_metric_is_named_with_its_k_and_its_encoder(metric, words):
    assert label(metric) == words


def test_headings_have_the_k_before_the_unit():
    assert heading("test_knn_100") == "test k-NN, k = 100 (%)"
    assert heading("test_knn") == "test k-NN (%)"
    assert heading("test_mse") == "test MSE to teacher"
    assert heading("teacher_1") == "teacher_1"


def test_an_error_has_no_unit():
    assert unit("val_mse") == unit("loss") == ""
    assert axis("test_mse") == label("test_mse")
    assert score("test_mse", 0.12345) == "0.1235"
    assert score("test_knn_1", 0.12345) == "12.35"

"""DoGo's figures on made-up sweeps: weights, temperatures, curves, and where the paper's choice is marked."""

import pytest
from helpers.builders.paper_sweeps import counts, key, marked, means, sweep_of, varied

from raydistill.report.figures import style
from raydistill.report.papers import dogo, panels


def test_trials_of_a_range_share_a_mean_by_its_parts():
    """1 to 500 in five parts: 1 and 2 lie in the first one, 450 in the last."""
    chosen = [
        ({"method.lambda_kd": weight, "method.tau_kd": 0.1, "method.tau_c": 0.5}, score, False)
        for weight, score in ((1.0, 0.4), (2.0, 0.6), (450.0, 0.8))
    ]
    first, second, third = dogo.weights_and_temperatures(sweep_of("dogo", chosen)).axes
    (line,) = means(first)
    assert list(line.get_ydata()) == pytest.approx([50.0, 80.0])
    assert list(line.get_xdata()) == pytest.approx([500**0.1, 500**0.9])
    assert counts(first) == ["n=2", "n=1"]
    assert counts(second) == ["tau_kd was 0.1\nin every trial"]
    assert counts(third) == ["tau_c was 0.5\nin every trial"]
    fixed = sweep_of("dogo", [({"method.tau_kd": tau, "method.lambda_kd": 50.0}, 0.5, False) for tau in (0.05, 1.0)])
    assert panels.PAPER in key(dogo.weights_and_temperatures(fixed)), "no word of a weight that has no panel"


def test_panels_of_settings_that_vary_come_first():
    chosen = [
        ({"method.lambda_kd": 100.0, "method.tau_kd": tau, "method.tau_c": 0.5}, 0.5, False) for tau in (0.1, 1.0)
    ]
    names = [axes.get_xlabel() for axes in dogo.weights_and_temperatures(sweep_of("dogo", chosen)).axes]
    assert names == ["tau_kd", "lambda_kd", "tau_c"]


def test_curves_are_coloured_by_weight_and_a_fixed_one_is_said():
    figure = dogo.curves_by_weight(varied("dogo"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation k-NN accuracy (%)", "lambda_kd"]
    chosen = [({"method.lambda_kd": 100.0, "method.tau_kd": 0.1, "method.tau_c": 0.5}, 0.5, False)] * 2
    assert "lambda_kd 100, in every trial" in key(dogo.curves_by_weight(sweep_of("dogo", chosen)))


def test_a_trial_without_distillation_is_grey_beside_the_coloured_ones():
    chosen = [({"method.lambda_kd": weight}, 0.5, False) for weight in (0, 10.0)]
    figure = dogo.curves_by_weight(sweep_of("dogo", chosen))
    (axes,) = figure.axes
    assert [line.get_color() == style.GREY for line in axes.get_lines() if line.get_marker() == "None"] == [True, False]
    assert {"lambda_kd 0: no distillation", "lambda_kd 10"} <= key(figure)


def test_a_scale_of_weights_within_a_decade_has_its_ends_as_ticks():
    chosen = [({"method.lambda_kd": weight}, 0.5, False) for weight in (20.0, 80.0)]
    _, bar = dogo.curves_by_weight(sweep_of("dogo", chosen)).axes
    assert [text.get_text() for text in bar.get_yticklabels()] == ["20", "80"]


def test_each_peer_that_was_scored_has_its_curves():
    chosen = [({"method.lambda_kd": 10.0, "method.backbones": ["small", "large"]}, 0.5, False)]
    student, peer = dogo.curves_by_weight(sweep_of("dogo", chosen, val_knn_peer_2=0.9)).axes
    assert [axes.get_title(loc="left") for axes in (student, peer)] == ["student, small", "peer 2, large"]
    assert [axes.get_lines()[0].get_ydata()[-1] for axes in (student, peer)] == pytest.approx([50.0, 90.0])


@pytest.mark.parametrize(
    ("reduction", "batch", "weight"),
    [("element_mean", 256, 100.0), ("element_mean", 128, 50.0), ("batchmean", 64, 100 / 256)],
)
def test_the_papers_weight_is_marked_where_it_is_as_strong_here(reduction, batch, weight):
    """KL / N^2 times lambda at N = 256 is what KL / N times lambda / 256 is, at any N."""
    at = {"method.kd_reduction": reduction, "data.batch_size": batch, "method.tau_kd": 0.1, "method.tau_c": 0.5}
    sweep = sweep_of("dogo", [({"method.lambda_kd": value, **at}, 0.5, False) for value in (0.1, 400.0)])
    figure = dogo.weights_and_temperatures(sweep)
    assert marked(figure.axes[0]) == pytest.approx([weight])
    name = "the paper's choice" + {100.0: "", 50.0: " (its lambda_kd of 100 is 50 here)"}.get(
        weight, " (its lambda_kd of 100 is 0.391 here)"
    )
    assert name in key(figure)


@pytest.mark.parametrize("path", ["method.kd_reduction", "data.batch_size"])
def test_the_papers_weight_is_not_marked_where_its_strength_varies(path):
    values = {"method.kd_reduction": ["element_mean", "batchmean"], "data.batch_size": [128, 256]}[path]
    chosen = [
        ({"method.lambda_kd": weight, path: value}, 0.5, False)
        for weight, value in zip((0.1, 500.0), values, strict=True)
    ]
    assert marked(dogo.weights_and_temperatures(sweep_of("dogo", chosen)).axes[0]) == []


def test_a_sweep_without_scores_says_so():
    empty = sweep_of("dogo", [])
    assert counts(dogo.weights_and_temperatures(empty).axes[0]) == ["no trial has a lambda_kd"]
    assert "No trial" in dogo.curves_by_weight(empty).texts[0].get_text()

"""The report's figures on made-up sweeps: whose trials they show, in which colours, and that their texts fit."""

import html
import re
from itertools import pairwise

import pandas as pd
import pytest
from helpers.builders.sweeps import Trial, made_up, whole

from raydistill.report import figures
from raydistill.report.figures import labels, searched, style
from raydistill.report.figures.scales import scale_of
from raydistill.report.papers.trials import varied
from raydistill.report.render.svg import to_svg

CHOICES = {
    "method.backbone": ["resnet10_w16", "resnet18_w32", "vit_tiny_patch4", "mobilenet_v3_large", "efficientnet_b0"],
    "method.intermediate_dim": [128, 256, 512],
    "method.alpha_schedule": ["cosine", "constant"],
    "method.projection_dim": [64, 128],
    "method.momentum_schedule": ["cosine", "constant"],
    "method.student_recipe": ["weak", "moco2"],
    "method.predictor_batchnorm": [True, False],
    "method.weight_decay": [0.0, 0.1],
}


def of_choices(count=len(CHOICES), trials=10):
    """A sweep over the first `count` of them."""
    space = {path: {"distribution": "categorical", "values": CHOICES[path]} for path in list(CHOICES)[:count]}
    values = [{path: spec["values"][i % len(spec["values"])] for path, spec in space.items()} for i in range(trials)]
    return made_up(
        [Trial(f"t{i:04d}", each, [{"val_knn": i / 20, "loss": 1.0}]) for i, each in enumerate(values)], space=space
    )


def said(figure):
    """What points and lines of a figure say in a page, in the order in which they are drawn."""
    drawn = re.findall(r"<title>(.*?)</title>", to_svg(figure, "figure", "a figure"))
    return [html.unescape(text) for text in drawn]


@pytest.mark.parametrize("name", ["slices", "parallel_coordinates", "learning_curves"])
def test_every_trial_says_what_it_is_where_a_pointer_rests(name):
    space = {"train.lr": {"distribution": "uniform", "min": 0.01, "max": 0.1}, "method.stem": {"values": ["a<b", "&c"]}}
    trials = [
        Trial("t0000", {"train.lr": 0.02, "method.stem": "a<b"}, [{"val_knn": 0.5}, {"val_knn": 0.9123}]),
        Trial("t0001", {"train.lr": 0.0333, "method.stem": "&c"}, [{"val_knn": 0.25}], outcome="stopped_early"),
    ]
    sweep = made_up(trials, space=space)
    found = said(getattr(figures, name)(sweep))
    panels = 2 if name == "slices" else 1
    assert sorted(found) == sorted(
        panels
        * [
            "t0000: validation k-NN accuracy 91.23, finished; lr=0.02 stem=a<b",
            "t0001: validation k-NN accuracy 25.00, stopped early; lr=0.0333 stem=&c",
        ]
    )


def test_points_of_very_many_trials_are_drawn_together_and_only_the_winner_speaks(monkeypatch):
    monkeypatch.setattr(searched, "SPEAKING", 9)
    assert len(said(figures.slices(of_choices(1, trials=9)))) == 9
    assert [text[:6] for text in said(figures.slices(of_choices(1, trials=10)))] == ["t0009:"]


def test_every_seed_says_what_it_is():
    found = said(figures.comparison(whole(9)))
    assert any(re.fullmatch(r"dogo, seed 0: test k-NN accuracy \d+\.\d\d", text) for text in found), found


def boxes(figure, texts):
    """Where texts stand, from left to right."""
    figure.draw_without_rendering()
    return sorted((text.get_window_extent() for text in texts), key=lambda box: box.x0)


def told_apart(found):
    return all(a.x1 < b.x0 for a, b in pairwise(found))


def test_settings_of_teachers_and_finals_do_not_stretch_an_axis():
    space = {
        "train.lr": {"distribution": "log_uniform_values", "min": 0.01, "max": 0.1},
        "method.backbone": {"distribution": "categorical", "values": ["small"]},
    }
    found = {
        "t0000": {"train.lr": 0.02, "method.backbone": "small"},
        "teacher-1": {"train.lr": 3.0, "method.backbone": "large"},
    }
    sweep = made_up([Trial(key, params, [{"val_knn": 0.5}]) for key, params in found.items()], space=space)
    sweep.settings["method.backbone"] = ["small", "large"]
    assert (scale_of(sweep, "train.lr").low, scale_of(sweep, "train.lr").high) == (0.01, 0.1)
    assert scale_of(sweep, "method.backbone").choices == ("small",)
    assert not varied(sweep, "train.lr")


def lines(figure):
    """Lines of trials by the height at which they end: the best is at 1, the worst at 0."""
    (axes,) = figure.axes
    across = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    return {round(float(line.get_ydata()[-1]), 6): line for line in across}


def test_colours_rank_those_trained_to_the_end_and_others_are_grey_below_them():
    trials = [
        Trial(
            f"t{i}",
            {"train.lr": 0.01, "train.momentum": 0.5 + i / 10, "method.tau_kd": 0.1},
            [{"val_knn": score, "loss": 1.0}],
            outcome,
        )
        for i, (score, outcome) in enumerate(
            ((0.1, "stopped_early"), (0.2, "finished"), (0.3, "running"), (0.4, "finished"), (0.5, "finished"))
        )
    ]
    found = lines(figures.parallel_coordinates(made_up(trials)))
    stopped, worst, running, middle, winner = (found[height] for height in sorted(found))
    for line in (stopped, running):
        assert line.get_color() == style.FAINT
        assert line.get_linestyle() == "--"
        assert line.get_zorder() < min(worst.get_zorder(), middle.get_zorder(), winner.get_zorder())
    brightness = [sum(line.get_color()[:3]) for line in (worst, middle)]
    assert brightness[0] > brightness[1], "the darker the better"
    from matplotlib import colormaps

    assert tuple(worst.get_color()) == pytest.approx(colormaps[style.SCORES](style.LIGHTEST))
    assert winner.get_color() == style.RED


def test_many_lines_are_thinner_but_for_the_winners():
    for count, thickest in ((20, 1.2), (150, 0.76)):
        found = lines(figures.parallel_coordinates(of_choices(3, count)))
        assert found.pop(1.0).get_linewidth() == 2.4
        assert max(line.get_linewidth() for line in found.values()) == pytest.approx(thickest, abs=0.01)


def test_epochs_that_a_spent_budget_left_out_are_not_drawn_as_saved():
    sweep = whole(40)
    stopped = sweep.role("search", "stopped_early")
    drawn = len(figures.budget(sweep).axes[0].patches) / 2
    sweep.trials.loc[stopped[0], "message"] = "2 hours are over"
    assert len(figures.budget(sweep).axes[0].patches) / 2 == drawn - 1


def test_white_between_many_trials_does_not_hide_them():
    edges = [figures.budget(whole(count)).axes[0].patches[-1].get_linewidth() for count in (12, 150)]
    assert edges == [0.3, 0.0]


def test_shares_need_not_be_all_and_the_rest_has_a_grey_bar(monkeypatch):
    shares = pd.Series({"train.lr": 0.5, "method.tau_kd": 0.2})
    monkeypatch.setattr(searched, "importances", lambda sweep: shares)
    (axes,) = figures.importance(whole(12)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr", "tau_kd", "together, or noise"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([50, 20, 30])
    assert [bar.get_facecolor() == axes.patches[0].get_facecolor() for bar in axes.patches] == [True, True, False]
    assert axes.get_xlim()[1] > 50
    assert axes.yaxis_inverted(), "the largest is above"
    assert axes.get_xlabel() == (
        "share of the variation of validation k-NN accuracy that each setting explains by itself (%), "
        f"over {searched.rests_on(whole(12))} trials trained to the end"
    )
    shares["train.lr"] = 0.796
    (axes,) = figures.importance(whole(12)).axes
    assert len(axes.patches) == 2


@pytest.mark.parametrize("count", [1, 4, 8])
def test_names_below_an_axis_do_not_run_into_each_other(count):
    figure = figures.slices(of_choices(count))
    for axes in figure.axes[:count]:
        texts = axes.get_xticklabels()
        if not texts[0].get_rotation():
            assert told_apart(boxes(figure, texts))
    slanted = figure.axes[0].get_xticklabels()
    assert {text.get_rotation() for text in slanted} == {0.0 if count == 1 else labels.SLANT}
    assert [text.get_text() for text in slanted] == CHOICES["method.backbone"]


def test_panels_with_slanted_names_are_as_high_as_others():
    heights = []
    for count in (4, 8):
        figure = figures.slices(of_choices(count))
        figure.draw_without_rendering()
        heights += [axes.get_window_extent().height / figure.dpi for axes in figure.axes]
    assert min(heights) > 1.3


@pytest.mark.parametrize("count", [1, 4, 8])
def test_titles_of_parallel_axes_do_not_run_into_each_other(count):
    figure = figures.parallel_coordinates(of_choices(count))
    titles = [text for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert len(titles) == count + 1
    assert told_apart(boxes(figure, titles))
    column = figure.axes[0].transData.transform([(0, 0), (1, 0)])[:, 0]
    ticks = [text for text in figure.axes[0].texts if text not in titles]
    assert max(box.width for box in boxes(figure, ticks)) < 0.8 * (column[1] - column[0])


def test_long_names_are_broken_at_their_joints_and_shortened_where_they_have_none():
    assert labels.broken("momentum_schedule", 13) == "momentum_\nschedule"
    assert labels.broken("different, weak / moco2", 13) == "different,\nweak / moco2"
    assert labels.broken("teacher.backbone", 10) == "teacher.\nbackbone"
    assert labels.broken("0.00125", 3) == "0.00125", "a number has no joint"
    assert labels.broken("x" * 30, 10) == "x" * 17 + "…"

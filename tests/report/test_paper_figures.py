"""The papers' figures on made-up sweeps: which trials are points, which make a mean, and what is refused."""

import math
from dataclasses import replace

import pytest
from helpers.sweeps import Trial, made_up
from matplotlib.figure import Figure

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.figures import style
from raydistill.report.papers import dogo, encoders, panels, sdssl, seed, simreg, sssd

LISTED = {"distribution": "categorical"}
SPACES = {
    "dogo": {
        "method.lambda_kd": {"distribution": "log_uniform_values", "min": 1, "max": 500},
        "method.tau_kd": LISTED | {"values": [0.05, 0.1, 1.0]},
        "method.tau_c": LISTED | {"values": [0.1, 0.5, 1.0]},
    },
    "seed": {
        "method.queue_size": LISTED | {"values": [128, 512, 1024]},
        "method.tau_t": LISTED | {"values": [1e-4, 0.01, 0.1]},
        "method.tau_s": LISTED | {"values": [0.1, 0.2]},
    },
    "simreg": {
        "method.head_depth": LISTED | {"values": [1, 4]},
        "method.views": LISTED | {"values": ["same", "different"]},
        "method.student_recipe": LISTED | {"values": ["weak", "moco2"]},
    },
    "sdssl": {
        "method.alpha": LISTED | {"values": [0.2, 0.8]},
        "method.alpha_schedule": LISTED | {"values": ["cosine", "constant"]},
        "method.beta": LISTED | {"values": [0.0, 1.0]},
    },
    "sssd": {
        "method.clusters": LISTED | {"values": [10, 50]},
        "method.alpha": LISTED | {"values": [0.0, 0.3]},
        "method.lambda_features": LISTED | {"values": [0.0, 0.003]},
    },
}
FIGURES = [
    dogo.weights_and_temperatures,
    dogo.curves_by_weight,
    seed.queue,
    seed.temperatures,
    simreg.head,
    simreg.augmentation,
    sdssl.schedules,
    sdssl.layers,
    sssd.exits,
    sssd.clusters,
]


def sweep_of(method, chosen, rows=(), **scores):
    """`chosen`: settings, score, and whether it was stopped early, of each trial; `scores`: of every epoch besides."""
    trials = []
    for i, (values, score, stopped) in enumerate(chosen):
        shares = (0.5,) if stopped else (0.5, 1.0)
        curve = [{"val_knn": score * share, "loss": 1.0, **scores} for share in shares]
        outcome = "stopped_early" if stopped else "finished"
        trials.append(Trial(f"t{i:04d}", dict(values), curve, outcome))
    return replace(made_up(trials, rows=rows, space=SPACES[method], epochs=2), name=f"{method}-1", method=method)


def varied(method, rows=()):
    """A sweep in which every setting takes its first and its last value."""
    space = SPACES[method]
    ends = [{path: spec.get("values", [1.0, 500.0])[end] for path, spec in space.items()} for end in (0, -1)]
    return sweep_of(method, [(ends[0], 0.5, False), (ends[1], 0.6, False), (ends[1], 0.4, True)], rows)


def final(method, kind):
    """Rows of a final of two seeds in which the winner was scored at two encoders before the last."""
    shallow = {f"{metric}_{kind}_{i}": 0.1 * i for metric in ("test_knn", "test_probe") for i in (1, 2)}
    scores = [
        {"val_knn": 0.7, "test_knn": 0.6 + s, "test_probe": 0.5 + s, "test_probe_ensemble": 0.8, **shallow}
        for s in (0.0, 0.1)
    ]
    alone = {"val_knn": 0.65, "test_knn": 0.55, "test_probe": 0.45}
    return [LeaderboardEntry(method, {}, 2, scores), LeaderboardEntry("simclr-tuned", {}, 2, [alone, alone])]


def counts(axes):
    return [text.get_text() for text in axes.texts]


def means(axes):
    return [line for line in axes.get_lines() if line.get_marker() == "D"]


def marked(axes):
    """Where the paper's choice is."""
    return [line.get_xdata()[0] for line in axes.get_lines() if line.get_label() == panels.PAPER]


def key(figure):
    return {text.get_text() for text in figure.legends[0].get_texts()}


def points(axes, *, hollow):
    """How many trials are drawn filled, or hollow."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return sum(len(line.get_xdata()) for line in lines if (line.get_markerfacecolor() == "none") == hollow)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f"{f.__module__.rpartition('.')[2]}.{f.__name__}")
def test_every_figure_is_drawn_of_its_own_method_and_refuses_others(figure, tmp_path):
    method = figure.__module__.rpartition(".")[2]
    kind = {"sdssl": "block", "sssd": "exit"}.get(method, "")
    drawn = figure(varied(method, final(method, kind)))
    assert isinstance(drawn, Figure)
    drawn.savefig(tmp_path / "figure.png")
    other = "seed" if method != "seed" else "dogo"
    with pytest.raises(ValueError, match=f"{other}-1 is a sweep of {other}; this is a figure of {method}"):
        figure(varied(other))


def test_means_are_of_trials_trained_to_the_end_and_say_how_many():
    taus = [{"method.queue_size": 128}, {"method.queue_size": 1024}]
    chosen = [(taus[0], 0.5, False), (taus[0], 0.6, False), (taus[0], 0.1, True), (taus[1], 0.7, False)]
    (axes,) = seed.queue(sweep_of("seed", chosen)).axes
    (line,) = means(axes)
    assert list(line.get_ydata()) == pytest.approx([55.0, 70.0])
    assert counts(axes) == ["n=2", "n=1"]
    assert (points(axes, hollow=False), points(axes, hollow=True)) == (3, 1)


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


def test_groups_are_named_with_their_number_of_trials():
    (axes,) = simreg.head(varied("simreg")).axes
    legend = axes.get_legend()
    assert legend.get_title().get_text() == "student_recipe"
    assert [text.get_text() for text in legend.get_texts()] == ["moco2, n=1", "weak, n=1"]
    assert [handle.get_color() for handle in legend.legend_handles] == list(style.COLORS[:2])
    assert counts(axes) == []


def test_trials_that_a_condition_leaves_without_a_group_are_drawn_in_grey():
    chosen = [
        ({"method.head_depth": depth, "method.student_recipe": recipe}, 0.5, False)
        for depth, recipe in ((1, "weak"), (4, "moco2"), (4, math.nan))
    ]
    (axes,) = simreg.head(sweep_of("simreg", chosen)).axes
    assert points(axes, hollow=False) == 3
    names = axes.get_legend()
    assert names.get_texts()[-1].get_text() == "not used, n=1"
    assert names.legend_handles[-1].get_color() == style.GREY


def test_a_sweep_that_has_no_scores_yet_has_no_groups():
    waiting = varied("simreg")
    waiting.trials["outcome"] = "running"
    (axes,) = simreg.head(waiting).axes
    assert axes.get_legend() is None


def test_the_mean_of_a_group_has_a_mark_smaller_than_that_of_all_trials():
    first, second = seed.temperatures(varied("seed")).axes
    sizes = [line.get_markersize() for line in means(first)]
    assert [len(line.get_xdata()) for line in means(first)] == [1, 1]
    assert 0 < min(sizes) == max(sizes) < means(second)[0].get_markersize()


def test_the_legend_of_groups_takes_nothing_from_the_panel():
    heights = []
    for schedules in (["cosine", "constant"], ["cosine", "constant", "linear", "step"]):
        chosen = [
            ({"method.alpha": alpha, "method.alpha_schedule": name, "method.beta": 1.0}, 0.5, False)
            for name in schedules
            for alpha in (0.2, 0.8)
        ]
        figure = sdssl.schedules(sweep_of("sdssl", chosen))
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height / figure.dpi)
    assert heights[1] == pytest.approx(heights[0], abs=0.1)


@pytest.mark.parametrize(("figure", "path"), [(seed.queue, "method.queue_size"), (seed.temperatures, "method.tau_t")])
def test_points_of_one_value_lie_beside_each_other(figure, path):
    values = SPACES["seed"][path]["values"]
    axes = figure(sweep_of("seed", [({path: value}, 0.5, False) for value in (values[0], *values)])).axes[0]
    places = [float(x) for line in axes.get_lines() if line.get_marker() == "o" for x in line.get_xdata()]
    assert len(places) == len(set(places)) == 4


@pytest.mark.parametrize(
    ("figure", "fixed", "first"),
    [
        (dogo.weights_and_temperatures, "method.lambda_kd", "tau_kd"),
        (seed.temperatures, "method.tau_t", "tau_s"),
        (sdssl.schedules, "method.alpha", "alpha_schedule"),
    ],
    ids=["dogo", "seed", "sdssl"],
)
def test_a_setting_is_not_told_apart_by_itself(figure, fixed, first):
    """Where the first panel's setting was not varied, the one by which its trials are told apart comes first."""
    method = figure.__module__.rpartition(".")[2]
    chosen = [
        (
            {path: spec.get("values", [9.0])[0 if path == fixed else end] for path, spec in SPACES[method].items()},
            0.5,
            False,
        )
        for end in (0, -1)
    ]
    axes = figure(sweep_of(method, chosen)).axes[0]
    assert axes.get_xlabel() == first
    assert counts(axes) == ["n=1", "n=1"]
    (line,) = means(axes)
    assert line.get_markersize() > 0
    assert list(line.get_ydata()) == pytest.approx([50.0, 50.0])


def test_means_of_names_are_not_joined():
    chosen = [
        ({"method.alpha": a, "method.alpha_schedule": s, "method.beta": 1.0}, 0.5, False)
        for a, s in ((0.2, "cosine"), (0.8, "constant"))
    ]
    alpha, schedule, _ = sdssl.schedules(sweep_of("sdssl", chosen)).axes
    assert [line.get_linestyle() for line in (*means(alpha), *means(schedule))] == ["-", "-", "None"]


def test_the_legend_says_that_early_stopping_flatters_a_mean():
    values = {"method.queue_size": 128}, {"method.queue_size": 1024}
    both = [(values[0], 0.5, False), (values[1], 0.6, False)]
    stopped = sweep_of("seed", [*both, (values[0], 0.1, True)])
    assert {panels.LEFT, panels.STOPPED} <= key(seed.queue(stopped))
    assert key(seed.queue(sweep_of("seed", both))) == {"trained to the end", panels.MEAN}
    stopped.trials.loc["t0002", "message"] = "2 hours are over"
    assert panels.MEAN in key(seed.queue(stopped)), "a spent budget does not choose"


def test_the_papers_choice_and_the_baseline_are_marked_where_the_axis_reaches_them():
    reached = seed.temperatures(varied("seed", final("seed", "")))
    beyond = seed.queue(varied("seed"))
    for figure, wanted in ((reached, {panels.PAPER, panels.PLAIN}), (beyond, set())):
        assert key(figure) & {panels.PAPER, panels.PLAIN} == wanted
    assert panels.baseline(varied("seed", final("seed", ""))) == pytest.approx(65.0)


def test_losses_of_two_methods_do_not_compare():
    rows = final("seed", "")
    for row in rows:
        row.scores[:] = [score | {"loss": 1.0} for score in row.scores]
    assert panels.baseline(replace(varied("seed", rows), metric="loss", goal="minimize")) is None


def test_the_paper_that_has_table_6_has_an_alpha_of_06():
    """Between two choices of a list where it is none of them."""
    alpha, *_ = sdssl.schedules(varied("sdssl")).axes
    assert marked(alpha) == pytest.approx([(0.6 - 0.2) / (0.8 - 0.2)])


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


def test_who_sees_what_is_a_row_of_table_7():
    chosen = [
        ({"method.views": views, "method.student_recipe": student, "method.teacher_recipe": teacher}, score, end)
        for views, student, teacher, score, end in (
            ("eval", "weak", "moco2", 0.3, False),
            ("different", "moco2", "weak", 0.4, False),
            ("different", "weak", "moco2", 0.2, False),
            ("different", "moco2", "moco2", 0.1, True),
            ("same", "weak", "weak", 0.5, False),
            ("same", "weak", "moco2", 0.7, False),
        )
    ]
    figure = simreg.augmentation(sweep_of("simreg", chosen))
    (axes,) = figure.axes
    assert [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()] == [
        "same, weak",
        "different, weak / moco2",
        "different, moco2 / moco2",
        "different, moco2 / weak",
        "eval, weak",
    ]
    (line,) = means(axes)
    assert list(line.get_xdata()) == [0, 1, 3, 4]
    assert list(line.get_ydata()) == pytest.approx([60.0, 40.0, 20.0, 30.0])
    assert counts(axes) == ["n=2", "n=1", "n=1", "n=1"]
    assert points(axes, hollow=True) == 1
    assert marked(axes) == [0]
    more = [
        ({"method.views": views, "method.student_recipe": student, "method.teacher_recipe": teacher}, 0.5, False)
        for views in ("same", "different")
        for student in ("weak", "moco2", "byol1")
        for teacher in ("weak", "moco2", "byol1")
    ]
    assert simreg.augmentation(sweep_of("simreg", more)).get_figwidth() > figure.get_figwidth(), "more names, more room"


def test_views_and_recipes_that_were_not_varied_are_said():
    chosen = [({"method.head_depth": depth}, 0.5, False) for depth in (1, 4)]
    figure = simreg.augmentation(sweep_of("simreg", chosen))
    assert counts(figure.axes[0]) == ["view of teacher / student was same, weak\nin every trial"]
    assert not figure.legends, "there is nothing to explain"


def test_a_sweep_without_scores_says_so():
    empty = sweep_of("dogo", [])
    assert counts(dogo.weights_and_temperatures(empty).axes[0]) == ["no trial has a lambda_kd"]
    assert "No trial" in dogo.curves_by_weight(empty).texts[0].get_text()


def test_encoders_are_columns_in_percent_with_the_student_last():
    sweep = varied("sssd", final("sssd", "exit"))
    scores = encoders.by_encoder(sweep, sweep.rows[0], "test_probe", "exit")
    assert list(scores.columns) == [1, 2, 3]
    assert scores.iloc[1].tolist() == pytest.approx([10.0, 20.0, 60.0])
    alone = encoders.by_encoder(sweep, sweep.rows[1], "test_probe", "exit")
    assert list(alone.columns) == [3]


def test_the_ensemble_stands_beside_the_exits_of_the_probes():
    probe, knn = sssd.exits(varied("sssd", final("sssd", "exit"))).axes
    assert [label.get_text() for label in probe.get_xticklabels()] == ["1", "2", "3", "all"]
    assert [label.get_text() for label in knn.get_xticklabels()] == ["1", "2", "3"]


@pytest.mark.parametrize(("figure", "kind"), [(sdssl.layers, "block"), (sssd.exits, "exit")])
def test_a_sweep_that_scored_its_student_alone_is_told_how_to_score_all(figure, kind):
    method = figure.__module__.rpartition(".")[2]
    alone = [LeaderboardEntry(row.name, {}, 2, [{"test_knn": 0.5, "test_probe": 0.4}]) for row in final(method, kind)]
    message = f"{method}-1 scored its student alone; add --set eval.encoders=all to score every {kind}"
    with pytest.raises(ValueError, match=message):
        figure(varied(method, alone))
    with pytest.raises(ValueError, match=f"{method}-1 has no final yet"):
        figure(varied(method))

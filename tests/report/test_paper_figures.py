"""The papers' figures on made-up sweeps: which trials are points, which make a mean, and what is refused."""

import math
from dataclasses import replace

import pytest
from helpers.builders.paper_sweeps import SPACES, counts, final, key, marked, means, points, sweep_of, varied
from matplotlib.figure import Figure

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.figures import style
from raydistill.report.papers import dogo, encoders, panels, sdssl, seed, simreg, sssd

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

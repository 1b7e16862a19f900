"""The papers' figures on made-up sweeps: which trials are points, which make a mean, and what is refused."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from sweeps import Trial, made_up

from raydistill.report.papers import dogo, encoders, panels, sdssl, seed, simreg, sssd
from raydistill.sweep.table import Row

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
    },
    "sssd": {
        "method.clusters": LISTED | {"values": [10, 50]},
        "method.alpha": LISTED | {"values": [0.0, 0.3]},
        "method.lambda_features": LISTED | {"values": [0.0, 0.003]},
    },
}  # fmt: skip
FIGURES = [
    dogo.weights_and_temperatures, dogo.curves_by_weight, seed.queue, seed.temperatures, simreg.head,
    simreg.augmentation, sdssl.schedules, sdssl.layers, sssd.exits, sssd.clusters,
]  # fmt: skip


def sweep_of(method, chosen, rows=()):
    """`chosen`: settings of each trial, with its score, and whether it was stopped early, as (score, stopped)."""
    trials = []
    for i, (values, score, stopped) in enumerate(chosen):
        curve = [{"val_knn": score * share, "loss": 1.0} for share in ((0.5,) if stopped else (0.5, 1.0))]
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
    scores = [{"val_knn": 0.7, "test_knn": 0.6 + s, "test_probe": 0.5 + s, "test_probe_ensemble": 0.8, **shallow}
              for s in (0.0, 0.1)]  # fmt: skip
    alone = {"val_knn": 0.65, "test_knn": 0.55, "test_probe": 0.45}
    return [Row(method, {}, 2, scores), Row("simclr-tuned", {}, 2, [alone, alone])]


def counts(axes):
    return [text.get_text() for text in axes.texts]


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
    (line,) = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert list(line.get_ydata()) == pytest.approx([55.0, 70.0])
    assert counts(axes) == ["n=2", "n=1"]
    assert (points(axes, hollow=False), points(axes, hollow=True)) == (3, 1)


def test_trials_of_a_range_share_a_mean_by_its_parts():
    """1 to 500 in five parts: 1 and 2 lie in the first one, 450 in the last."""
    chosen = [({"method.lambda_kd": weight, "method.tau_kd": 0.1, "method.tau_c": 0.5}, score, False)
              for weight, score in ((1.0, 0.4), (2.0, 0.6), (450.0, 0.8))]  # fmt: skip
    first, second, third = dogo.weights_and_temperatures(sweep_of("dogo", chosen)).axes
    (line,) = [line for line in first.get_lines() if line.get_marker() == "D"]
    assert list(line.get_ydata()) == pytest.approx([50.0, 80.0])
    assert list(line.get_xdata()) == pytest.approx([500**0.1, 500**0.9])
    assert counts(first) == ["n=2", "n=1"]
    assert counts(second) == ["tau_kd was 0.1\nin every trial"]
    assert counts(third) == ["tau_c was 0.5\nin every trial"]


def test_panels_of_settings_that_vary_come_first():
    chosen = [
        ({"method.lambda_kd": 100.0, "method.tau_kd": tau, "method.tau_c": 0.5}, 0.5, False) for tau in (0.1, 1.0)
    ]
    names = [axes.get_xlabel() for axes in dogo.weights_and_temperatures(sweep_of("dogo", chosen)).axes]
    assert names == ["tau_kd", "lambda_kd", "tau_c"]


def test_groups_are_named_with_their_number_of_trials():
    (axes,) = simreg.head(varied("simreg")).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "student_recipe moco2 (1)", "student_recipe weak (1)",
    ]  # fmt: skip
    assert counts(axes) == []


def test_the_papers_choice_and_the_baseline_are_marked_where_the_axis_reaches_them():
    reached = seed.temperatures(varied("seed", final("seed", "")))
    beyond = seed.queue(varied("seed"))
    for figure, wanted in ((reached, {panels.PAPER, panels.PLAIN}), (beyond, set())):
        labels = {text.get_text() for text in figure.legends[0].get_texts()}
        assert labels & {panels.PAPER, panels.PLAIN} == wanted
    assert panels.baseline(varied("seed", final("seed", ""))) == pytest.approx(65.0)


def test_curves_are_coloured_by_weight_and_a_fixed_one_is_said():
    figure = dogo.curves_by_weight(varied("dogo"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation k-NN accuracy (%)", "lambda_kd"]
    chosen = [({"method.lambda_kd": 100.0, "method.tau_kd": 0.1, "method.tau_c": 0.5}, 0.5, False)] * 2
    fixed = dogo.curves_by_weight(sweep_of("dogo", chosen))
    assert [axes.get_title(loc="left") for axes in fixed.axes] == ["lambda_kd was 100 in every trial"]


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
    alone = [Row(row.name, {}, 2, [{"test_knn": 0.5, "test_probe": 0.4}]) for row in final(method, kind)]
    message = f"{method}-1 scored its student alone; add --set eval.encoders=all to score every {kind}"
    with pytest.raises(ValueError, match=message):
        figure(varied(method, alone))
    with pytest.raises(ValueError, match=f"{method}-1 has no final yet"):
        figure(varied(method))

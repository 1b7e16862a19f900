"""Several sweeps side by side: tables against numbers by hand, and their figures."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from helpers.builders.sweeps import Trial, made_up, whole

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.comparison_table import POOLED, comparison_table, differences, pooled
from raydistill.report.costs import costs, packs
from raydistill.report.tables import final, leaders

SPACE = {"train.lr": {"distribution": "uniform", "min": 0.1, "max": 0.9}}


def scored(name, ours, theirs=None):
    """A sweep whose winner and baseline have these test scores, one for each seed."""
    arms = {"seed": ours} | ({"simclr-same-settings": theirs} if theirs else {})
    rows = [
        LeaderboardEntry(arm, {}, 9, [{"test_knn": value, "student_parameters": 2e6} for value in values])
        for arm, values in arms.items()
    ]
    settings = {"train.lr": 0.1, "method.backbone": "resnet10_w16"}
    trials = [
        Trial(f"final-{arm}-seed{i}", settings, [{"test_knn": value}])
        for arm, values in arms.items()
        for i, value in enumerate(values)
    ]
    found = made_up(trials, rows=rows, space=SPACE, tags={"raydistill.winner": "final-seed-seed0"})
    return replace(found, name=name, method="seed")


def test_a_row_has_the_winner_its_baseline_and_their_difference_by_seed():
    table = comparison_table([scored("a", [0.5, 0.6], [0.4, 0.52])])
    row = table.loc[("a", "test_knn")]
    assert (row.method, row.student, row.parameters, row.seeds) == ("seed", "resnet10_w16", 2.0, 2)
    t, root = 12.706, math.sqrt(2)  # Student's t of one degree of freedom
    assert (row.score, row.sd) == (pytest.approx(55.0), pytest.approx(10 / root))
    assert (row.low, row.high) == (pytest.approx(55 - t * 5, rel=1e-3), pytest.approx(55 + t * 5, rel=1e-3))
    assert (row.baseline, row["baseline score"]) == ("simclr-same-settings", pytest.approx(46.0))
    assert row.difference == pytest.approx(9.0), "paired: 10 and 8 points"
    assert row["difference low"] == pytest.approx(9 - t * 1, rel=1e-3)
    assert row["difference high"] == pytest.approx(9 + t * 1, rel=1e-3)


def test_without_spread_or_baseline_there_is_nothing_rather_than_zero():
    table = comparison_table([scored("one", [0.5], [0.4]), scored("alone", [0.5, 0.6]), made_up([], space=SPACE)])
    assert list(table.index) == [("one", "test_knn"), ("alone", "test_knn")]
    one, alone = table.iloc[0], table.iloc[1]
    assert one.difference == pytest.approx(10.0)
    assert pd.isna([one.sd, one.low, one["difference low"]]).all()
    assert pd.isna([alone.baseline, alone.difference]).all()


def test_sweeps_are_pooled_as_one_observation_each():
    sweeps = [scored("a", [0.5, 0.6], [0.4, 0.5]), scored("b", [0.5, 0.7], [0.4, 0.4])]
    found = pooled(comparison_table(sweeps), "test_knn")
    assert (found.mean, found.count) == (pytest.approx(15.0), 2)
    figure = differences(sweeps)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", POOLED]
    assert [label.get_text() for label in differences(sweeps[:1]).axes[0].get_yticklabels()] == ["a"]


def test_nothing_to_compare_is_said():
    assert "No sweep has a winner and a baseline" in differences([made_up([], space=SPACE)]).texts[0].get_text()


def test_costs_count_what_was_trained_and_shared():
    """Batches of 128: a step of one learner takes 0.2 s, 0.1 of its own; of two learners together 0.3 s."""
    pair = {
        "loss": 1.0,
        "pack_learners": 2.0,
        "step_seconds": 0.1,
        "images_per_second": 128 / 0.3,
        "workers": 1.0,
        "shared_seconds": 0.1,
    }
    single = pair | {"pack_learners": 1.0, "images_per_second": 128 / 0.2}
    params = {"train.lr": 0.5, "data.batch_size": 128}
    trials = [
        Trial("t0000", params, [pair] * 4),
        Trial("t0001", params, [pair], "stopped_early"),
        Trial("t0002", params, [], "failed"),
        Trial("final-seed-seed1", params, [single] * 3),
    ]
    row = costs([made_up(trials, space=SPACE, epochs=4)]).iloc[0]
    assert (row.trials, row.stopped, row.failed, row.epochs) == (3, 1, 1, 8)
    assert row.hours == pytest.approx(3725 / 3600)
    assert row.saved == pytest.approx(3 / 8)
    assert row.learners == 2
    assert row["images per second"] == pytest.approx(2 * 128 / 0.3)
    assert row.sharing == pytest.approx(0.2 / 0.15), "alone each takes 0.1 s in common and 0.1 s of its own"


def test_sharing_counts_each_learners_own_step():
    """0.02 s in common; one learner takes 0.01 s of its own, the other 0.09: 0.12 together, 0.03 and 0.11 alone."""
    common = {"loss": 1.0, "pack_learners": 2.0, "shared_seconds": 0.02, "images_per_second": 128 / 0.12}
    trials = [
        Trial(f"t{i:04d}", {"train.lr": 0.5, "data.batch_size": 128}, [common | {"step_seconds": own}])
        for i, own in enumerate((0.01, 0.09))
    ]
    assert costs([made_up(trials, space=SPACE, epochs=1)]).iloc[0].sharing == pytest.approx(0.14 / 0.12)


def test_sweeps_without_labels_are_compared_too():
    found = scored("a", [0.5, 0.6], [0.4, 0.5])
    for row in found.rows:
        row.scores[:] = [{"val_instance": score["test_knn"]} for score in row.scores]
    assert comparison_table([found]).loc[("a", "val_instance")].difference == pytest.approx(10.0)
    assert not differences([found]).texts or "No sweep" not in differences([found]).texts[0].get_text()


def test_packs_are_drawn_for_every_sweep_that_logged_them():
    (axes,) = packs([whole(), made_up([], space=SPACE)]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dogo-1"]


def test_the_final_has_what_the_sweeps_own_table_shows():
    frame = final(whole())
    assert list(frame.index) == ["dogo", "simclr-same-settings", "simclr-default"]
    assert list(frame) == ["seeds", "epochs", "val_knn", "test_knn", "test_probe"]
    assert frame.seeds.tolist() == [3, 3, 3]
    assert "±" in frame.val_knn.iloc[0]


def test_leaders_are_those_trained_to_the_end_then_the_longest():
    frame = leaders(whole())
    ended = frame[frame.outcome == "finished"]
    assert list(frame.index[: len(ended)]) == list(ended.index)
    assert ended.val_knn.is_monotonic_decreasing
    assert frame.epochs.is_monotonic_decreasing
    assert {"lr", "tau_kd", "objectives"} <= set(frame)

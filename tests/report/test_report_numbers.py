"""The report's numbers: intervals against SciPy and by hand, importances of known settings, savings by hand."""

import math
import random
from dataclasses import replace

import pytest
import scipy.stats
from helpers.builders.sweeps import EPOCHS, Trial, finals, made_up, params, search, whole
from hypothesis import given
from hypothesis import strategies as st

from raydistill.records.intervals import difference, estimate
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.caveats import caveats
from raydistill.report.comparison import against, baselines, by_seed, finalists
from raydistill.report.conclusion import conclusion
from raydistill.report.importance import importances, oob_r2, why_none
from raydistill.report.intervals import sentence
from raydistill.report.savings import describe, savings
from raydistill.report.standings.conditions import conditions
from raydistill.report.summary import summarize

OURS, THEIRS = {0: 0.72, 1: 0.75, 2: 0.73}, {0: 0.70, 1: 0.71, 2: 0.71}
scores = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def test_an_interval_is_as_scipy_has_it_and_as_one_would_by_hand():
    values = [0.72, 0.75, 0.73]
    found = estimate(values)
    expected = scipy.stats.t.interval(0.95, 2, loc=found.mean, scale=scipy.stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    # 4.303 is Student's t of two degrees of freedom.
    assert found.high - found.mean == pytest.approx(4.303 * 0.0152753 / math.sqrt(3), rel=1e-3)
    assert estimate([0.5]) == estimate([0.5]).__class__(0.5, None, None, None, 1)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_a_difference_is_paired_by_seed_as_scipy_has_it():
    found = difference(OURS, THEIRS)
    expected = scipy.stats.ttest_rel(list(OURS.values()), list(THEIRS.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.paired
    only = difference(OURS, {1: 0.71, 7: 0.9})
    assert (only.mean, only.seeds, only.low) == (pytest.approx(0.04), 1, None)


def test_without_common_seeds_it_is_welchs():
    theirs = {"a": 0.70, "b": 0.71, "c": 0.705, "d": 0.68}
    found = difference(OURS, theirs)
    test = scipy.stats.ttest_ind(list(OURS.values()), list(theirs.values()), equal_var=False)
    expected = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert not found.paired


@given(scores, scores)
def test_an_interval_holds_its_mean_and_a_difference_has_two_sides(ours, theirs):
    found = estimate(ours)
    assert found.low <= found.mean <= found.high
    for other in (dict(enumerate(theirs)), {f"other {i}": value for i, value in enumerate(theirs)}):
        a, b = difference(dict(enumerate(ours)), other), difference(other, dict(enumerate(ours)))
        assert (a.mean, a.seeds, a.paired) == (pytest.approx(-b.mean), b.seeds, b.paired)
        if a.low is not None:
            assert (a.low, a.high) == (pytest.approx(-b.high), pytest.approx(-b.low))


@pytest.mark.parametrize(
    ("ours", "theirs", "metric", "maximize", "expected"),
    [
        (
            OURS,
            THEIRS,
            "val_knn",
            True,
            "no difference that 3 seeds could show (+2.7 points, 95 % interval −0.2 to 5.5)",
        ),
        (
            {0: 0.8, 1: 0.82},
            {0: 0.7, 1: 0.719},
            "test_knn",
            True,
            "better by 10.1 points (95 % interval 9.4 to 10.7, 2 seeds)",
        ),
        (
            {0: 0.7, 1: 0.719},
            {0: 0.8, 1: 0.82},
            "test_knn",
            True,
            "worse by 10.1 points (95 % interval 9.4 to 10.7, 2 seeds)",
        ),
        (
            {0: 1.0, 1: 1.1},
            {0: 2.0, 1: 2.102},
            "loss",
            False,
            "better by 1.001 (95 % interval 0.988 to 1.014, 2 seeds)",
        ),
        ({0: 0.8}, {0: 0.7}, "test_knn", True, "better by 10.0 points; one seed shows no spread"),
        ({0: 0.8}, {0: 0.8}, "test_knn", True, "equal; one seed shows no spread"),
    ],
)
def test_a_difference_in_plain_words(ours, theirs, metric, maximize, expected):
    assert sentence(difference(ours, theirs), metric, maximize=maximize) == expected


def test_the_winners_first_seed_is_the_searchs_own_trial():
    sweep = whole(8)
    winner, baseline, _ = finalists(sweep)
    assert [row.name for row in baselines(sweep)] == ["simclr-same-settings", "simclr-default"]
    assert by_seed(sweep, winner, "val_knn") == dict(enumerate(score["val_knn"] for score in winner.scores))
    assert against(sweep, baseline, "test_knn").paired
    # A seed that failed is missing on one side.
    sweep.trials.loc["final-simclr-same-settings-seed1", "outcome"] = "failed"
    baseline.scores.pop(1)
    assert list(by_seed(sweep, baseline, "val_knn")) == [0, 2]
    assert against(sweep, baseline, "test_knn").seeds == 2
    # Where the runs do not say which score is whose, nothing is paired.
    baseline.scores.pop()
    assert not against(sweep, baseline, "test_knn").paired


def test_the_setting_that_matters_is_found_among_few_trials_and_shares_are_shares():
    shares = importances(made_up(search(40)))
    assert shares.index[0] == "train.lr"
    assert shares.iloc[0] > 0.7
    assert 0.7 < shares.sum() <= 1 + 1e-9
    assert oob_r2(made_up(search(40))) > 0.5
    assert "method.lambda_simsiam" in shares
    assert "train.optimizer" not in shares


def crossed(score, count=60):
    """Trials of two settings whose score is what `score` makes of them, each from -1 to 1, and of chance."""
    rng = random.Random(1)
    space = {f"train.{name}": {"distribution": "uniform", "min": -1, "max": 1} for name in "ab"}
    trials = []
    for i in range(count):
        a, b = rng.uniform(-1, 1), rng.uniform(-1, 1)
        trials.append(Trial(f"t{i:04d}", {"train.a": a, "train.b": b}, [{"val_knn": score(a, b, rng), "loss": 1.0}]))
    return made_up(trials, space=space)


def test_what_settings_do_together_is_nobodys_own_share():
    """Of a product of two settings neither explains anything by itself."""
    together = importances(crossed(lambda a, b, rng: a * b))
    assert together.sum() < 0.6
    apart = importances(crossed(lambda a, b, rng: 2 * a + b))
    assert apart.sum() > 0.85
    assert 2.5 < apart["train.a"] / apart["train.b"] < 10, "the variance of 2a is four times that of b"


def test_a_forest_that_learned_noise_says_so():
    noise = crossed(lambda a, b, rng: rng.random())
    assert oob_r2(noise) <= 0
    assert "The 60 trials trained to the end do not tell which" in conclusion(noise)
    assert "matters most" not in conclusion(noise)
    assert "take these shares for noise" in summarize(noise).worth
    signal = crossed(lambda a, b, rng: a + 0.1 * rng.random())
    assert oob_r2(signal) > 0.8
    assert "train.a matters most: by itself it explains 100 %" in conclusion(signal)
    assert "% of the variation is predicted in trials left out" in summarize(signal).worth


def test_a_setting_that_only_some_trials_have_can_matter():
    trials = search(40)
    for trial in trials:
        both = len(trial.params["method.objectives"]) == 2
        gain = math.log10(trial.params["method.lambda_simsiam"]) * 0.2 if both else 0.0
        trial.epochs, trial.outcome = [{"val_knn": 0.5 + gain, "loss": 1.0}], "finished"
    assert importances(made_up(trials)).index[0] == "method.lambda_simsiam"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda trials: trials[:3], "there are 3."),
        (lambda trials: [Trial(t.key, t.params, [{"val_knn": 0.5}]) for t in trials], "have the same score"),
        (lambda trials: [Trial(t.key, trials[0].params, t.epochs) for t in trials], "do not differ"),
        (lambda trials: [Trial(t.key, t.params, t.epochs, "failed") for t in trials], "there are 0."),
    ],
)
def test_where_importances_cannot_be_told_it_is_said_why(change, why):
    rng = random.Random(0)
    trials = [Trial(f"t{i}", params(rng), [{"val_knn": i / 10, "loss": 1.0}]) for i in range(6)]
    sweep = made_up(change(trials))
    assert importances(sweep).empty
    assert why in why_none(sweep)


def test_savings_by_hand():
    """Three trials of nine epochs, one of them stopped after three and a failed one, which does not count."""
    rng = random.Random(0)
    epoch = {"val_knn": 0.5, "loss": 1.0, "epoch_seconds": 300.0, "workers": 2.0}
    trials = [
        Trial(f"t{i}", params(rng), [epoch] * epochs, outcome)
        for i, (epochs, outcome) in enumerate(
            [(EPOCHS, "finished"), (3, "stopped_early"), (EPOCHS, "finished"), (2, "failed")]
        )
    ]
    spent = '{"hours": 1.0, "accelerator_hours": 2.0, "epochs": 23, "money": 8.0}'
    found = savings(made_up(trials, tags={"raydistill.spent": spent}))
    assert (found.trials, found.stopped, found.trained, found.full, found.saved) == (3, 1, 21, 27, 6)
    assert found.share == pytest.approx(6 / 27)
    assert found.worker_seconds == 6 * 300 * 2
    assert found.money == pytest.approx(4.0)  # an hour of a worker, at 4 an hour
    assert describe(found) == (
        "1 of 3 trials were stopped early: 21 of 27 epochs were trained, 22 % less than by training every trial to its "
        "end. At the median time of an epoch that is about 1 h 00 min of a worker saved, 4.00 at the price given."
    )
    assert savings(made_up(trials[:1])).saved == 0


def test_what_a_spent_budget_cut_off_was_not_saved_by_early_stopping():
    rng = random.Random(0)
    epoch = {"val_knn": 0.5, "loss": 1.0}
    trials = [
        Trial("t0", params(rng), [epoch] * EPOCHS),
        Trial("t1", params(rng), [epoch], "stopped_early", "2 hours are over"),
    ]
    sweep = made_up(trials)
    assert (savings(sweep).stopped, savings(sweep).saved) == (0, 0)
    assert "1 trial was cut off by the sweep's budget: 2 hours are over." in caveats(sweep)
    assert savings(made_up([])).share == 0


def test_what_was_stopped_by_hand_is_said_and_was_not_saved_by_early_stopping():
    rng = random.Random(0)
    epoch = [{"val_knn": 0.5}]
    trials = [
        Trial("t0", params(rng), epoch * EPOCHS),
        Trial("t1", params(rng), epoch, "stopped_early", "stopped by hand"),
        Trial("t2", params(rng), epoch, "stopped_early", "the search was stopped by hand"),
        Trial("t3", params(rng), epoch, "stopped_early"),
    ]
    sweep = made_up(trials)
    assert "2 trials were stopped by hand: t1, t2." in caveats(sweep)
    assert not any("budget" in line for line in caveats(sweep))
    assert savings(sweep).stopped == 1


def test_test_scores_that_were_seen_before_are_a_caveat_and_keep_a_sweep_out_of_other_tables():
    said = "test scored again after 20 more trials: its scores were seen before"
    seen, once = whole(tags={"raydistill.scored_again": said}), whole()
    assert f"T{said[1:]}. Whoever decided to go on knew them." in caveats(seen)
    assert said in summarize(seen).note
    assert "scored once" in summarize(once).note
    told = [dict(conditions(sweep, {}, 12).budget) for sweep in (seen, once)]
    assert [each.get("test") for each in told] == ["seen before", None]


def test_the_verdict_names_the_winner_the_baseline_and_the_setting_that_matters():
    sweep = whole(40)
    text = conclusion(sweep)
    assert f"The best, {sweep.tags['raydistill.winner']} (lr=" in text
    assert "dogo against simclr-same-settings, a baseline with the same student, in test k-NN accuracy: " in text
    assert "Of its settings train.lr matters most: by itself it explains " in text
    assert "hint" not in text
    assert "over 12 trials, which is a hint and no more" in conclusion(crossed(lambda a, b, rng: a, 12))


@pytest.mark.parametrize(
    ("pixels", "untrained", "said"),
    [
        (0.99, 0.3, "dogo does not beat raw pixels, so this comparison says little about the methods."),
        (0.3, 0.99, "dogo does not beat the untrained student, so"),
        (0.99, 0.99, "dogo does not beat raw pixels or the untrained student, so"),
        (0.3, 0.3, None),
    ],
)
def test_the_verdict_names_the_references_and_says_what_is_not_beaten(pixels, untrained, said):
    sweep = whole(12)
    before = conclusion(sweep)
    assert "For reference" not in before
    references = {"pixels": pixels, "untrained": untrained, "teacher": 0.8}
    rows = [LeaderboardEntry(name, {}, 0, [{"test_knn": score}]) for name, score in references.items()]
    beside = replace(sweep, rows=[*sweep.rows[:3], *rows, *sweep.rows[3:]])
    text = conclusion(beside)
    shown = f"raw pixels {100 * pixels:.2f} %, the untrained student {100 * untrained:.2f} %, teacher 80.00 %."
    assert f"For reference, test k-NN accuracy: {shown}" in text
    assert (said in text) if said else ("does not beat" not in text)
    assert finalists(beside) == finalists(sweep)
    assert baselines(beside) == baselines(sweep)
    assert caveats(beside) == caveats(sweep), "one score of theirs is no lack of seeds"


@pytest.mark.parametrize(
    ("lr", "tau", "expected"),
    [
        (1.05e-4, 0.1, ["train.lr = 0.000105 lies at the lower end of 0.0001 to 0.1"]),
        (0.01, 0.5, ["method.tau_kd = 0.5 lies at the upper end of 0.05 to 0.5"]),
        (0.01, 0.2, []),
    ],
)
def test_a_winner_at_an_end_of_what_was_searched_is_said(lr, tau, expected):
    settings = params(random.Random(3)) | {"train.lr": lr, "method.tau_kd": tau, "train.momentum": 0.7}
    settings["method.objectives"] = ["simclr"]
    rows, _ = finals(settings)
    sweep = made_up([Trial("t0", settings, [{"val_knn": 0.5, "loss": 1.0}] * EPOCHS)], rows)
    said_edges = [text for text in caveats(sweep) if "widen" in text]
    assert [text for text in said_edges if any(part in text for part in expected)] == said_edges
    assert len(said_edges) == len(expected)


def test_an_end_that_the_setting_itself_has_is_no_caution():
    space = {"method.lambda_kd": {"distribution": "uniform", "min": 0, "max": 5}}
    edges = {}
    for value in (0.0, 5.0):
        trials = [
            Trial(f"t{i}", {"method.lambda_kd": at}, [{"val_knn": score, "loss": 1.0}] * EPOCHS)
            for i, (at, score) in enumerate([(value, 0.9), (2.5, 0.1)])
        ]
        edges[value] = [text for text in caveats(made_up(trials, space=space)) if "widen" in text]
    assert edges[0.0] == [], "no weight is below 0"
    assert len(edges[5.0]) == 1


def test_a_winner_whose_final_runs_failed_is_said_to_be_compared_with_nothing():
    sweep = whole(12)
    sweep.rows[0].scores.clear()
    assert "None of the winner's own final runs came to its end" in conclusion(sweep)
    assert "No baseline" not in conclusion(sweep)


def test_differences_without_a_common_seed_are_not_called_paired():
    sweep = whole(12)
    assert "paired by seed; the intervals are Student's" in summarize(sweep).compared
    baselines(sweep)[0].scores.pop()
    assert "Welch's" in summarize(sweep).compared


def test_a_resumed_sweep_took_what_it_worked_not_the_pause():
    spent = '{"hours": 2.0, "accelerator_hours": 2.0, "epochs": 90}'
    assert summarize(whole(6, tags={"raydistill.spent": spent})).about["took"] == "2 h 00 min"
    assert summarize(whole(6)).about["took"] == "1 h 02 min"


def test_broken_images_and_early_judgement_are_said():
    sweep = whole(20)
    sweep.scores.loc["t0000", "bad_images"] = 3.0
    assert "3 broken images were passed over (data.on_bad_image: skip)." in caveats(sweep)
    sweep.identity["base"]["train"]["warmup_epochs"] = 4
    assert any("rises for 4; raise early_terminate.min_iter" in text for text in caveats(sweep))

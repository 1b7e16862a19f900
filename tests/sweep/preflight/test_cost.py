"""What a sweep will cost: hand-computed numbers, and what must hold for any."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.sweep.preflight.cost import (
    BaselineRuns,
    Cost,
    CostEstimate,
    describe,
    duration,
    estimate,
    expected_epochs,
    going_on,
    pack_epoch_seconds,
)
from raydistill.sweep.preflight.step_benchmark import MissingTeacher, StepTimings
from raydistill.sweep.search.space import EarlyStop

# An epoch: 10 steps of 2 s shared and 1 s of each learner, 4 s of scoring and 1 s of saving.
PACE = StepTimings(
    shared_seconds=2,
    learner_seconds=1,
    evaluation_seconds=4,
    checkpoint_seconds=1,
    start_seconds=6,
    prepare_seconds=30,
    steps_per_epoch=10,
    checkpoint_bytes=2**29,
    parameters=1000,
)


def test_a_pack_pays_the_shared_part_once():
    assert pack_epoch_seconds(PACE, 1) == 20 + 10 + 5
    assert pack_epoch_seconds(PACE, 4) == 20 + 4 * 15
    assert pack_epoch_seconds(PACE, 4, scorings_per_epoch=0.5) == 20 + 4 * 13


def test_a_sweep_without_early_stopping():
    found = estimate(PACE, trials=9, epochs=3, final_runs=2, learners=4, packs=1, accelerators=2, price_per_hour=3.0)
    # Nine trials in three rounds: 9 epochs of the stream (20 s) and 27 of learners (15 s); then two side by side.
    seconds = 36 + (9 * 20 + 27 * 15) + (3 * 20 + 6 * 15)
    cost = Cost(33, seconds / 3600, seconds / 1800, seconds / 600)
    assert found.expected == found.at_most
    assert found.expected.trial_epochs == 33
    assert found.expected.hours == pytest.approx(cost.hours)
    assert found.expected.accelerator_hours == pytest.approx(cost.accelerator_hours)
    assert found.expected.money == pytest.approx(cost.money)
    assert found.checkpoint_gib == 11 * 2 * 0.5


def test_trials_of_several_seeds():
    found = estimate(PACE, trials=4, epochs=3, final_runs=2, learners=7, seeds=3)
    # Two trials of three learners side by side, twice: 6 epochs of the stream and 36 of learners; then the final's two.
    seconds = 36 + (6 * 20 + 36 * 15) + (3 * 20 + 6 * 15)
    assert found.expected == found.at_most
    assert found.expected.trial_epochs == 4 * 3 * 3 + 6
    assert found.expected.hours * 3600 == pytest.approx(seconds)
    assert found.checkpoint_gib == (4 * 3 + 2) * 2 * 0.5
    wide = estimate(PACE, trials=2, epochs=1, learners=1, seeds=3)
    assert wide.at_most.hours * 3600 == pytest.approx(36 + 2 * 20 + 6 * 15), (
        "a trial's seeds are side by side at any rate"
    )


def test_early_stopping_and_baselines_of_several_seeds():
    stop = EarlyStop("asha", 2, 2)
    one = {"trials": 5, "epochs": 6, "early_stop": stop, "baselines": [BaselineRuns(PACE, trials=5, finals=1)]}
    single, several = estimate(PACE, **one, learners=2), estimate(PACE, **one, learners=4, seeds=2)
    assert (single.expected.trial_epochs, several.expected.trial_epochs) == (40 + 6, 80 + 6)
    assert several.baselines.trial_epochs == 2 * single.baselines.trial_epochs == 40
    # Of each search 20 trial-epochs: ten of the stream, and twice as many of learners.
    assert several.baselines.hours * 3600 == pytest.approx(10 * 20 + 40 * 15)


def test_the_fullest_of_the_packs_decides():
    found = estimate(PACE, trials=9, epochs=1, learners=4, packs=2)
    assert found.at_most.hours * 3600 == pytest.approx(36 + 2 * 20 + 5 * 15)


def test_fewer_scores():
    # Five epochs, a score every second and after the last: three scores.
    found = estimate(PACE, trials=1, epochs=5, every=2)
    assert found.at_most.hours * 3600 == pytest.approx(36 + 5 * (20 + 10 + 1) + 3 * 4)


def test_missing_teachers_come_first_side_by_side_where_they_are_alike():
    teacher = replace(PACE, start_seconds=1, prepare_seconds=0, checkpoint_bytes=2**30)
    alike = [MissingTeacher("a", 2, teacher), MissingTeacher("b", 2, teacher)]
    timings = replace(PACE, teachers_missing=tuple(alike))
    found = estimate(timings, trials=1, epochs=1, learners=4)
    assert found.at_most.hours * 3600 == pytest.approx(1 + 2 * 20 + 4 * 15 + 36 + 35)
    assert found.at_most.trial_epochs == 5
    assert found.checkpoint_gib == 2 * (0.5 + 2)
    assert estimate(timings, trials=1, epochs=1, teachers=[]) == estimate(PACE, trials=1, epochs=1)


def test_going_on_with_eta_two_is_half_of_all_but_the_first():
    assert [going_on(n, 2) for n in (0, 1, 2, 5)] == [0, 1, 1.5, 3]
    assert going_on(1.5, 2) == 1.25
    # 1 + 1/2 + 4/9
    assert going_on(3, 3) == pytest.approx(35 / 18)


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_going_on_agrees_with_the_schedulers_rule(eta):
    values = np.random.default_rng(0).random((20_000, 12))
    cutoffs = [np.quantile(values[:, :m], 1 - 1 / eta, axis=1) for m in range(1, 12)]
    passed = 1 + sum((values[:, m] >= cutoff).mean() for m, cutoff in enumerate(cutoffs, 1))
    assert passed == pytest.approx(going_on(12, eta), rel=0.01)


def test_trial_epochs_with_rungs():
    # All five train 2 epochs, three go on to epoch 4, two (1 + 2 * 1/2) to the end at 6.
    assert expected_epochs(5, 6, EarlyStop("asha", min_iter=2, eta=2)) == 5 * 2 + 3 * 2 + 2 * 2
    # Scores at 3 and 6 only: the rungs of 1 and 2 epochs are both judged at 3, that of 4 at the end.
    assert expected_epochs(5, 6, EarlyStop("asha", min_iter=1, eta=2), every=3) == 5 * 3 + 3 * 3
    assert expected_epochs(5, 6, EarlyStop("asha", min_iter=6, eta=2)) == 30
    assert expected_epochs(5, 6, EarlyStop("median", min_iter=2)) == 5 * 2 + 3 * 4
    assert expected_epochs(5, 6, EarlyStop("hyperband")) == 30


def test_early_stopping_frees_places():
    found = estimate(PACE, trials=5, epochs=6, learners=1, early_stop=EarlyStop("asha", 2, 2))
    assert found.at_most.trial_epochs == 30
    assert found.expected.trial_epochs == 20
    assert found.expected.hours * 3600 == pytest.approx(36 + 20 * 35)
    assert found.at_most.hours * 3600 == pytest.approx(36 + 30 * 35)


def test_a_baseline_is_searched_after_the_method_at_its_own_pace():
    fast = replace(PACE, shared_seconds=1, learner_seconds=0.5, checkpoint_bytes=2**28)
    stop = EarlyStop("asha", min_iter=1, eta=2)
    work = {"trials": 4, "epochs": 4, "final_runs": 2, "learners": 4, "early_stop": stop}
    alone = estimate(PACE, **work)
    found = estimate(PACE, **work, baselines=[BaselineRuns(fast, trials=4, finals=3)])
    search = estimate(fast, trials=4, epochs=4, learners=4, early_stop=stop)
    finals = 4 * 10 + 12 * 10  # three runs of four epochs: the stream's 10 s, and 10 s of each learner
    began = fast.start_seconds + fast.prepare_seconds  # counted once, for the whole sweep
    hours = search.expected.hours - began / 3600
    assert found.baselines.hours == pytest.approx(hours)
    assert found.expected.hours == pytest.approx(alone.expected.hours + hours + finals / 3600)
    assert found.at_most.trial_epochs == alone.at_most.trial_epochs + 16 + 12
    assert found.checkpoint_gib == alone.checkpoint_gib + 2 * 7 * 0.25
    assert describe(found)["of which baseline search"] == f"about {duration(hours)}"


def test_words_for_people():
    cost = Cost(trial_epochs=120.4, hours=2 + 40 / 60, accelerator_hours=12.5, money=37.5)
    found = CostEstimate(cost, replace(cost, hours=5, accelerator_hours=20, money=60, trial_epochs=200), 0.25)
    assert describe(found) == {
        "trial-epochs": "120, at most 200 in all",
        "time": "about 2 h 40 min, at most 5 h 00 min",
        "workers": "12.5 worker hours, at most 20.0",
        "money": "$37.50, at most $60.00",
        "checkpoints": "0.25 GiB",
    }
    plain = Cost(3, 0.5, 0, None)
    assert describe(CostEstimate(plain, plain, 0)) == {
        "trial-epochs": "3 in all",
        "time": "about 30 min",
        "checkpoints": "0.0 GiB",
    }


def test_durations():
    shown = [duration(seconds / 3600) for seconds in (0, 45, 89, 90, 3570, 3600, 9600)]
    assert shown == ["0 s", "45 s", "89 s", "2 min", "1 h 00 min", "1 h 00 min", "2 h 40 min"]


@pytest.mark.parametrize("wrong", [{"trials": -1}, {"epochs": 0}, {"learners": 0}, {"packs": 0}, {"every": 0}])
def test_counts_that_cannot_be(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        estimate(PACE, **{"trials": 1, "epochs": 1, **wrong})


seconds = st.floats(0, 100)
paces = st.builds(
    StepTimings,
    seconds,
    seconds,
    seconds,
    seconds,
    seconds,
    seconds,
    st.integers(1, 1000),
    st.integers(0, 2**32),
    st.integers(0, 10**9),
)
stops = st.none() | st.builds(
    EarlyStop, st.sampled_from(["asha", "hyperband", "bohb", "median"]), st.integers(1, 8), st.integers(2, 5)
)
counts = st.integers(1, 6)


def near_most(smaller, larger):
    return smaller <= larger * (1 + 1e-9) + 1e-12


@settings(deadline=None)
@given(paces, st.integers(0, 30), st.integers(1, 40), stops, counts, counts, counts)
def test_more_is_never_cheaper_and_expected_never_above_most(timings, trials, epochs, stop, learners, packs, every):
    sweep = {
        "early_stop": stop,
        "learners": learners,
        "packs": packs,
        "every": every,
        "accelerators": packs,
        "price_per_hour": 2.0,
    }
    found = [
        estimate(timings, trials=trials, epochs=epochs, **sweep),
        estimate(timings, trials=trials + 1, epochs=epochs, **sweep),
        estimate(timings, trials=trials + 1, epochs=epochs, final_runs=1, **sweep),
    ]
    for one in found:
        for name in ("trial_epochs", "hours", "accelerator_hours", "money"):
            assert near_most(getattr(one.expected, name), getattr(one.at_most, name))
    for less, more in pairwise(found):
        for bound in ("expected", "at_most"):
            for name in ("trial_epochs", "hours", "accelerator_hours", "money"):
                assert near_most(getattr(getattr(less, bound), name), getattr(getattr(more, bound), name))
        assert less.checkpoint_gib <= more.checkpoint_gib


@settings(deadline=None)
@given(paces, st.integers(1, 16), st.floats(0, 1))
def test_a_pack_costs_between_one_learner_and_all_alone(timings, learners, scorings):
    alone, together = (pack_epoch_seconds(timings, k, scorings) for k in (1, learners))
    assert near_most(alone, together)
    assert near_most(together, learners * alone)


@settings(deadline=None)
@given(paces, st.integers(1, 30), st.integers(1, 20), counts, counts)
def test_company_and_more_packs_never_take_longer(timings, trials, epochs, learners, packs):
    def hours(**changes):
        return estimate(timings, trials=trials, epochs=epochs, **changes).at_most.hours

    assert near_most(hours(learners=learners + 1, packs=packs), hours(learners=learners, packs=packs))
    assert near_most(hours(learners=learners, packs=packs + 1), hours(learners=learners, packs=packs))


@settings(deadline=None)
@given(st.floats(0, 50), st.floats(0, 50), st.integers(2, 6))
def test_never_more_go_on_than_come_and_more_go_on_of_more(a, b, eta):
    low, high = sorted((a, b))
    assert near_most(going_on(low, eta), low)
    assert near_most(going_on(low, eta), going_on(high, eta))

"""A sweep's budget: what is spent, what the final needs, and when no more may be started."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.records.budget import BY_HAND, SEARCH, Budget, Limits, Spent

HOUR = 3600


def make(**limits):
    now = [100.0]
    return Budget(Limits(**limits), clock=lambda: now[0]), now


def test_hours_accelerator_hours_epochs_and_money():
    budget, now = make(price_per_hour=3.0)
    now[0] += HOUR
    budget.using(4)
    now[0] += HOUR / 2
    budget.using(1)
    now[0] += 2 * HOUR
    budget.trained()
    budget.trained(6)
    assert budget.spent() == Spent(hours=3.5, accelerator_hours=4.0, epochs=7, money=12.0)
    budget.using(0)
    now[0] += HOUR
    assert budget.spent() == Spent(hours=4.5, accelerator_hours=4.0, epochs=7, money=12.0)


def test_without_limits_it_never_ends_and_has_no_money():
    budget, now = make()
    now[0] += 1e9
    budget.trained(10**6)
    assert budget.exhausted() == ""
    assert budget.spent().money is None


def test_the_final_is_kept_back_at_the_pace_so_far():
    budget, now = make(hours=2.0)
    assert budget.reserve(10) == Spent(0, 0, 10)  # the pace is not known yet
    budget.using(2)
    now[0] += HOUR
    assert budget.exhausted() == ""
    budget.trained(12)  # 5 minutes each
    needed = budget.reserved()
    assert (needed.hours, needed.accelerator_hours) == (pytest.approx(10 / 12), pytest.approx(20 / 12))
    assert needed.epochs == 10
    assert budget.exhausted() == ""
    now[0] += HOUR / 10
    assert budget.exhausted() == "2.0 of 2.0 hours are spent or needed for the final"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"hours": 1.0}, "1.0 of 1.0 hours are spent"),
        ({"hours": 0.5}, "1.0 of 0.5 hours are spent"),
        ({"accelerator_hours": 1.5}, "3.0 of 1.5 accelerator hours are spent"),
        ({"epochs": 8}, "8 of 8 trial-epochs are spent"),
        ({"hours": 1.01, "accelerator_hours": 3.5, "epochs": 9}, ""),
    ],
)
def test_each_limit_has_its_reason(limits, reason):
    budget, now = make(**limits)
    budget.using(3)
    now[0] += HOUR
    budget.trained(8)
    assert budget.exhausted() == reason


def test_epochs_are_kept_back_from_the_start():
    budget, _ = make(epochs=10)
    budget.reserve(4)
    budget.trained(5)
    assert budget.exhausted() == ""
    budget.trained()
    assert budget.exhausted() == "10 of 10 trial-epochs are spent or needed for the final"
    budget.reserve(0)
    assert budget.exhausted() == "10 of 10 trial-epochs are spent or needed for the final"


def test_each_phase_is_exhausted_for_itself():
    budget, now = make(epochs=10)
    budget.reserve(6)
    budget.trained(4)
    assert budget.exhausted()
    budget.reserve(3, "simclr")
    assert budget.exhausted() == "", "what was kept back for it is there"
    budget.trained(3)
    later = budget.exhausted()
    assert later == "10 of 10 trial-epochs are spent or needed for the final"
    resumed = Budget.from_dict(json.loads(json.dumps(budget.to_dict())), budget.limits, clock=lambda: now[0])
    resumed.reserve(0)
    assert resumed.exhausted(), "the search stays exhausted"
    resumed.reserve(0, "simclr")
    assert resumed.exhausted() == later
    resumed.reserve(0, "mocov2")
    assert resumed.exhausted() == ""


def test_a_resumed_sweep_goes_on_counting_without_the_time_between():
    budget, now = make(hours=3.0, price_per_hour=2.0)
    budget.using(2)
    now[0] += HOUR
    budget.trained(3)
    budget.reserve(2)
    kept = json.loads(json.dumps(budget.to_dict()))
    now[0] += 100 * HOUR
    resumed = Budget.from_dict(kept, budget.limits, clock=lambda: now[0])
    assert resumed.spent() == Spent(1.0, 2.0, 3, 4.0)
    now[0] += HOUR
    assert resumed.spent() == Spent(2.0, 2.0, 3, 4.0)
    assert resumed.exhausted() == "3.3 of 3.0 hours are spent or needed for the final"


def test_exhaustion_outlives_a_resume_unless_the_limits_were_changed():
    budget, now = make(epochs=10)
    budget.reserve(4)
    budget.trained(6)
    reason = budget.exhausted()
    budget.reserve(0)
    kept = json.loads(json.dumps(budget.to_dict()))
    assert Budget.from_dict(kept, Limits(epochs=10), clock=lambda: now[0]).exhausted() == reason
    assert Budget.from_dict(kept, Limits(epochs=20), clock=lambda: now[0]).exhausted() == ""


@pytest.mark.parametrize("name", ["hours", "accelerator_hours", "epochs", "price_per_hour"])
def test_negative_limits_are_refused(name):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: -1})


def test_negative_events_are_refused():
    budget, _ = make()
    for event in (budget.using, budget.trained, budget.reserve):
        with pytest.raises(ValueError, match="-1"):
            event(-1)


events = st.lists(
    st.tuples(st.sampled_from(["using", "trained", "reserve", "wait", "resume"]), st.integers(0, 10_000)), max_size=30
)


@settings(deadline=None)
@given(events, st.floats(0, 5), st.floats(0, 20), st.integers(0, 50_000))
def test_spent_never_falls_and_exhausted_is_sticky(steps, hours, accelerator_hours, epochs):
    budget, now = make(hours=hours, accelerator_hours=accelerator_hours, epochs=epochs, price_per_hour=1.5)
    before, reason = budget.spent(), budget.exhausted()
    for event, value in steps:
        if event == "wait":
            now[0] += value
        elif event == "resume":
            now[0] += value
            budget = Budget.from_dict(json.loads(json.dumps(budget.to_dict())), budget.limits, clock=lambda: now[0])
        else:
            getattr(budget, event)(value % 9 if event == "using" else value)
        after = budget.spent()
        for name in ("hours", "accelerator_hours", "epochs", "money"):
            assert getattr(after, name) >= getattr(before, name)
        assert not reason or budget.exhausted() == reason
        before, reason = after, budget.exhausted()
        over = after.hours >= hours or after.accelerator_hours >= accelerator_hours or after.epochs >= epochs
        assert bool(reason) >= over


def test_a_search_that_is_stopped_by_hand_stays_so_whatever_the_limits_until_it_is_to_try_more():
    budget = Budget(Limits(epochs=10))
    budget.reserve(3)
    budget.end(BY_HAND)
    budget.end("another reason")
    assert (budget.exhausted(), budget.stopped_by_hand()) == (BY_HAND, [SEARCH])
    budget.reserve(0, "simclr")
    assert budget.exhausted() == "", "each search for itself"
    budget.end(BY_HAND)
    again = Budget.from_dict(budget.to_dict(), Limits(epochs=20))
    again.reserve(3)
    assert (again.exhausted(), again.stopped_by_hand()) == (BY_HAND, [SEARCH, "simclr"])
    again.reopen()
    assert (again.exhausted(), again.stopped_by_hand()) == ("", [])
    spent = Budget(Limits(epochs=1))
    spent.trained(2)
    assert spent.exhausted()
    spent.reopen()
    assert spent.exhausted(), "a spent budget stays spent"

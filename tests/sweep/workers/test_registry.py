"""The trials that joined: who waits, who left, what is delivered."""

from helpers.brokers import A
from helpers.requests import request
from hypothesis import given
from hypothesis import strategies as st

from raydistill.sweep.workers.registry import JoinedTrial, TrialRegistry
from raydistill.training.messages import EpochResult

KEYS = st.sampled_from("abcd")


def joining(key, **values):
    return request(key, A, **values)


def joined(registry, *keys):
    trials = [registry.join(joining(key), 0.0) for key in keys]
    for trial in trials:
        trial.wants_epoch = True
    return trials


def keys(trials):
    return [trial.key for trial in trials]


def test_a_trial_waits_once_it_wants_an_epoch_and_until_a_group_holds_it():
    registry = TrialRegistry()
    trial = registry.join(joining("a"), 5.0)
    assert trial.joined_at_s == 5.0
    assert registry.waiting() == []
    trial.wants_epoch = True
    assert registry.waiting() == [trial]
    trial.group = "p"
    assert registry.waiting() == []


def test_trials_wait_in_the_order_in_which_they_joined():
    registry = TrialRegistry()
    joined(registry, "b", "a", "c")
    assert keys(registry.waiting()) == ["b", "a", "c"]
    joined(registry, "b")
    assert keys(registry.waiting()) == ["a", "c", "b"]


def test_joining_again_replaces_the_earlier_life():
    registry = TrialRegistry()
    (old,) = joined(registry, "a")
    old.send(EpochResult("a", 1))
    new = registry.join(joining("a", last_delivered_epoch=1), 0.0)
    assert registry.get("a") is new is not old
    assert not new.results
    assert not new.wants_epoch


def test_a_trial_that_leaves_neither_waits_nor_stays():
    registry = TrialRegistry()
    gone, stays = joined(registry, "a", "b")
    gone.leaving = True
    assert registry.waiting() == registry.staying() == [stays]
    assert registry.get("a") is gone, "until its group has stopped it"
    registry.forget("a")
    assert registry.get("a") is None
    registry.forget("a")


def test_a_delivered_result_ends_the_wish_for_an_epoch_and_moves_the_request_on():
    calls = []
    trial = JoinedTrial(joining("a", last_delivered_epoch=2), 0.0, wants_epoch=True)
    trial.on_result = lambda: calls.append(len(trial.results))
    trial.deliver(EpochResult("a", 3))
    assert not trial.wants_epoch
    assert trial.request.last_delivered_epoch == 3
    assert calls == [1], "called when the result can be taken"
    assert trial.results.popleft() == EpochResult("a", 3)


@given(st.lists(st.integers(0, 9), min_size=1))
def test_results_come_in_order_and_the_last_delivered_epoch_never_falls(epochs):
    trial = JoinedTrial(joining("a"), 0.0)
    for index, epoch in enumerate(epochs):
        trial.deliver(EpochResult("a", epoch))
        assert trial.request.last_delivered_epoch == max(epochs[: index + 1])
    assert [result.epoch for result in trial.results] == epochs


@given(st.lists(st.tuples(st.sampled_from(["join", "ask", "place", "leave", "forget"]), KEYS)))
def test_a_key_stands_once_and_who_waits_is_here_wants_an_epoch_and_has_no_group(steps):
    registry = TrialRegistry()
    for action, key in steps:
        trial = registry.get(key)
        if action == "join":
            registry.join(joining(key), 0.0)
        elif action == "forget":
            registry.forget(key)
        elif trial is not None:
            trial.wants_epoch |= action == "ask"
            trial.leaving |= action == "leave"
            trial.group = "p" if action == "place" else trial.group
        waiting, staying = registry.waiting(), registry.staying()
        assert len(set(keys(staying))) == len(staying)
        assert set(keys(waiting)) <= set(keys(staying))
        assert all(trial.wants_epoch and trial.group is None and not trial.leaving for trial in waiting)
        assert all(registry.get(trial.key) is trial for trial in staying)

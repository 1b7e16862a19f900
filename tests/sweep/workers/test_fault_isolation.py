"""Deaths of a group's workers, and the learner to blame for them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.sweep.workers.fault_isolation import MAX_WORKER_RESTARTS, FaultIsolation


def test_fresh_workers_without_members_are_no_death():
    faults = FaultIsolation()
    assert faults.on_restart([]) is None
    assert faults == FaultIsolation()


def test_the_first_death_is_an_accident_and_the_second_makes_suspects():
    faults = FaultIsolation()
    assert faults.on_restart(["a", "b", "c"]) is None
    assert faults.suspects == []
    assert faults.on_restart(["a", "b", "c"]) is None
    assert faults.suspects == ["a", "b", "c"]
    assert [faults.held_back(key) for key in "abcd"] == [False, True, True, False]


def test_an_epoch_between_two_deaths_makes_both_accidents():
    faults = FaultIsolation()
    faults.on_restart(["a", "b"])
    faults.on_epoch({"a", "b"})
    faults.on_restart(["a", "b"])
    assert faults.suspects == []


def test_a_lone_learner_is_to_blame_after_as_many_restarts_as_it_may_have():
    faults = FaultIsolation()
    for _ in range(MAX_WORKER_RESTARTS):
        assert faults.on_restart(["a"]) is None
        faults.suspects = []
    assert faults.on_restart(["a"]) == "a"
    assert faults == FaultIsolation()


def test_a_death_clears_the_suspects_outside_and_an_epoch_those_that_trained():
    faults = FaultIsolation(suspects=list("abcd"))
    assert faults.on_restart(["a", "b", "x"]) is None
    assert faults.suspects == ["a", "b"]
    faults.on_epoch({"a", "x"})
    assert faults.suspects == ["b"]
    assert not faults.held_back("b"), "the last suspect trains, or it would wait for ever"
    assert faults.on_restart(["b", "x"]) == "b"
    assert faults.suspects == []


def test_an_explained_death_is_not_counted():
    faults = FaultIsolation()
    faults.on_explained_death()
    assert faults.on_restart(["a", "b"]) is None
    assert faults.on_restart(["a", "b"]) is None
    assert faults.suspects == [], "one death that nobody can explain"


def test_a_learner_that_left_is_no_suspect():
    faults = FaultIsolation(suspects=["a", "b"])
    faults.forget("a")
    faults.forget("nobody")
    assert faults.suspects == ["b"]


@given(st.lists(st.integers(), max_size=12, unique=True).map(lambda numbers: [str(number) for number in numbers]))
def test_of_several_suspects_some_train_and_some_are_held_back(suspects):
    faults = FaultIsolation(suspects=suspects)
    outside = [key for key in suspects if faults.held_back(key)]
    assert len(outside) == (math.ceil(len(suspects) / 2) if len(suspects) > 1 else 0)


@pytest.mark.parametrize("accident", [False, True])
@given(data=st.data())
def test_halving_finds_the_one_culprit_and_nobody_else(accident, data):
    """Epochs of all that a group has room for; workers die whenever the culprit trains."""
    learners = [str(index) for index in range(data.draw(st.integers(1, 24)))]
    culprit = data.draw(st.sampled_from(learners))
    capacity = data.draw(st.integers(1, len(learners)))
    finished, deaths, faults = set(), 0, FaultIsolation()
    if accident:
        members = learners[:capacity]
        assert faults.on_restart(members) is None
        faults.on_epoch(members)
    while True:
        free = [key for key in learners if key not in finished and not faults.held_back(key)]
        members = free[:capacity]
        assert members, "some learner can always train"
        if culprit not in members:
            faults.on_epoch(members)
            finished |= set(members)
            continue
        deaths += 1
        blamed = faults.on_restart(members)
        assert blamed in (None, culprit)
        if blamed:
            break
    assert deaths <= MAX_WORKER_RESTARTS + 1 + math.ceil(math.log2(len(learners)))
    while rest := [key for key in learners if key != culprit and key not in finished]:
        members = [key for key in rest if not faults.held_back(key)][:capacity]
        assert members, "the others train on"
        faults.on_epoch(members)
        finished |= set(members)
    assert finished == set(learners) - {culprit}
    assert faults == FaultIsolation()

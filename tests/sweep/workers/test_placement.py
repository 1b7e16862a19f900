"""Which group takes which trial, and when another group is needed."""

import pytest
from helpers.brokers import batches_of
from helpers.requests import request
from hypothesis import given
from hypothesis import strategies as st

from raydistill.sweep.workers.capacity import CapacityController
from raydistill.sweep.workers.group_state import GroupState
from raydistill.sweep.workers.placement import PLACEMENT_TIMEOUT_S, Placement
from raydistill.sweep.workers.registry import JoinedTrial
from raydistill.training.messages import EpochResult

A, B, C = batches_of(16), batches_of(32), batches_of(64)


def trial(key, data=A, joined_at_s=0.0, seeds=1):
    return JoinedTrial(request(key, data, seeds=seeds), joined_at_s, wants_epoch=True)


def group(name, *members, capacity=2):
    made = GroupState(name, CapacityController(capacity))
    for member in members:
        made.add(member)
    return made


def keys(trials):
    return [each.key for each in trials]


class TestGathering:
    def test_an_empty_group_waits_for_more_trials_for_a_while(self):
        placement, empty, waiting = Placement(gather_seconds=3), group("p"), [trial("a")]
        assert placement.assign(empty, [empty], waiting, 2.9) == []
        assert placement.assign(empty, [empty], waiting, 3.0) == waiting
        assert waiting[0].group == "p"

    def test_the_first_trial_to_come_starts_the_clock(self):
        placement, empty = Placement(gather_seconds=3), group("p", capacity=3)
        waiting = [trial("b", joined_at_s=2.0), trial("a", joined_at_s=0.0)]
        assert placement.assign(empty, [empty], waiting, 3.0) == waiting

    def test_it_does_not_wait_once_it_would_be_full(self):
        empty = group("p")
        assert keys(Placement(gather_seconds=3).assign(empty, [empty], [trial("a"), trial("b")], 0.0)) == ["a", "b"]

    def test_nor_for_more_trials_than_will_come(self):
        empty = group("p")
        placement = Placement(gather_seconds=3, expected_trials=1)
        assert keys(placement.assign(empty, [empty], [trial("a")], 0.0)) == ["a"]

    def test_nor_where_one_more_like_the_last_has_no_room(self):
        empty, waiting = group("p", capacity=5), [trial("a", seeds=3)]
        assert Placement(gather_seconds=3).assign(empty, [empty], waiting, 0.0) == waiting

    def test_a_group_with_members_takes_a_trial_at_once(self):
        running = group("p", trial("a"))
        assert keys(Placement(gather_seconds=3).assign(running, [running], [trial("b")], 0.0)) == ["b"]


class TestAssign:
    def test_nobody_waits(self):
        empty = group("p")
        assert Placement().assign(empty, [empty], [], 0.0) == []

    def test_a_trial_goes_where_its_data_are(self):
        empty, running = group("p"), group("q", trial("a"))
        placement = Placement(2, gather_seconds=0)
        assert placement.assign(empty, [empty, running], [trial("b")], 9.0) == []
        assert keys(placement.assign(running, [empty, running], [trial("b")], 9.0)) == ["b"]

    def test_elsewhere_when_that_group_is_full(self):
        empty, full = group("p"), group("q", trial("a"), capacity=1)
        assert keys(Placement(2, gather_seconds=0).assign(empty, [empty, full], [trial("b")], 9.0)) == ["b"]

    @pytest.mark.parametrize(("launch", "limit"), [(False, 2), (True, 1)])
    def test_beside_other_data_when_no_other_group_can_come(self, launch, limit):
        running = group("p", trial("a"))
        placement = Placement(limit, can_launch=launch)
        assert keys(placement.assign(running, [running], [trial("b", B)], 0.0)) == ["b"]

    def test_other_data_wait_for_a_group_of_their_own_but_not_for_ever(self):
        running, waiting = group("p", trial("a")), [trial("b", B)]
        placement = Placement(2, can_launch=True)
        assert placement.assign(running, [running], waiting, PLACEMENT_TIMEOUT_S) == []
        assert placement.assign(running, [running], waiting, PLACEMENT_TIMEOUT_S + 1) == waiting

    def test_a_learner_that_is_held_back_waits_outside(self):
        running = group("p", trial("a"), capacity=3)
        running.faults.suspects = ["b", "c"]
        assert keys(Placement().assign(running, [running], [trial("b"), trial("c")], 9.0)) == ["b"]

    def test_a_trial_that_still_trains_somewhere_waits_until_it_is_stopped_there(self):
        old, new = group("p", trial("a")), group("q")
        old.forget("a")
        placement = Placement(2, gather_seconds=0)
        assert placement.assign(new, [old, new], [trial("a")], 9.0) == []
        assert old.dismiss() == ["a"]
        assert keys(placement.assign(new, [old, new], [trial("a")], 9.0)) == ["a"]


class TestSeveralSeeds:
    def test_a_trial_goes_where_all_its_learners_have_room(self):
        running, waiting = group("p", trial("a", seeds=2), capacity=4), [trial("b", seeds=3), trial("c", seeds=2)]
        assert keys(Placement().assign(running, [running], waiting, 9.0)) == ["c"]
        assert running.room == 0

    def test_one_that_no_group_has_room_for_trains_alone(self):
        empty, waiting = group("p", capacity=2), [trial("a", seeds=3), trial("b", seeds=3)]
        assert keys(Placement(gather_seconds=0).assign(empty, [empty], waiting, 0.0)) == ["a"]
        empty.deliver(EpochResult("a", 1, done=True))
        assert keys(Placement(gather_seconds=0).assign(empty, [empty], waiting[1:], 0.0)) == ["b"]

    @pytest.mark.parametrize(("capacity", "missing"), [(2, 3), (3, 3), (6, 2), (9, 1)])
    def test_groups_are_launched_for_all_learners(self, capacity, missing):
        waiting = [trial(key, seeds=3) for key in "abc"]
        assert Placement(5, can_launch=True).missing_groups([], waiting, capacity) == missing


class TestMissingGroups:
    def test_none_where_groups_come_by_themselves(self):
        assert Placement(2).missing_groups([], [trial("a")], 2) == 0

    @pytest.mark.parametrize(("trials", "missing"), [(0, 0), (1, 1), (2, 1), (3, 2), (9, 3)])
    def test_as_many_as_the_waiting_trials_fill_up_to_the_limit(self, trials, missing):
        waiting = [trial(str(index)) for index in range(trials)]
        assert Placement(3, can_launch=True).missing_groups([], waiting, 2) == missing

    def test_room_beside_equal_data_and_empty_groups_are_used_first(self):
        groups = [group("p", trial("a")), group("q")]
        placement = Placement(9, can_launch=True)
        assert placement.missing_groups(groups, [trial("b"), trial("c", B)], 2) == 0
        assert placement.missing_groups(groups, [trial("b"), trial("c", B), trial("d", C)], 2) == 1
        assert placement.missing_groups(groups, [trial(key) for key in "bcde"], 2) == 1

    def test_a_trial_takes_the_room_beside_its_data_before_an_empty_group(self):
        groups = [group("q"), group("p", trial("a"))]
        assert Placement(9, can_launch=True).missing_groups(groups, [trial("b"), trial("c", B)], 2) == 0


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["assign", "join", "finish", "out of memory", "leave", "release"]),
        st.integers(0, 2),
        st.integers(0, 5),
        st.sampled_from([A, B, C]),
    ),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 3), st.booleans(), st.integers(1, 4))
def test_no_trial_is_in_two_groups_and_no_group_is_above_its_capacity(actions, capacity, launch, seeds):
    groups = [group(name, capacity=capacity) for name in "pqr"]
    placement = Placement(4, can_launch=launch, gather_seconds=2)
    trials = {}
    for now_s, (action, which, number, data) in enumerate(actions):
        chosen, key = groups[which], str(number)
        if action == "assign":
            placement.assign(chosen, groups, [each for each in trials.values() if each.waits], float(now_s))
        elif action == "join":
            for each in groups:
                each.forget(key)
            trials[key] = trial(key, data, float(now_s), 1 if number % 2 else seeds)
        elif action == "finish":
            chosen.deliver(EpochResult(key, 1, done=True))
        elif action == "out of memory":
            chosen.deliver(EpochResult(key, 1, error="out of memory", memory=True))
        elif action == "leave" and key in chosen.members:
            chosen.members[key].leaving = True
            assert key in chosen.dismiss()
            del trials[key]
        elif action == "release":
            chosen.release()
        held = [member for each in groups for member in each.members.items()]
        assert len({key for key, _ in held}) == len(held)
        assert all(trials[key] is member for key, member in held)
        assert all(each.room >= 0 or len(each.members) == 1 for each in groups)
        assert all(member.group == each.name for each in groups for member in each.members.values())
        in_groups = {key for key, _ in held}
        assert all((each.group is None) == (key not in in_groups) for key, each in trials.items())
        dropped = [key for each in groups for key in each.dropped]
        assert not in_groups & set(dropped)
        waiting = [each for each in trials.values() if each.waits]
        missing = placement.missing_groups(groups, waiting, capacity)
        assert 0 <= missing <= (4 - len(groups) if launch else 0)

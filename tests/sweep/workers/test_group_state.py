"""The members of a worker group and the packs that they form."""

from helpers.brokers import batches_of
from helpers.requests import request

from raydistill.sweep.workers.capacity import CapacityController
from raydistill.sweep.workers.group_state import GroupState
from raydistill.sweep.workers.registry import JoinedTrial
from raydistill.training.messages import EpochResult

A, B = batches_of(16), batches_of(32)


def group(**members):
    made = GroupState("p", CapacityController(4))
    for key, data in members.items():
        made.add(JoinedTrial(request(key, data), 0.0, wants_epoch=True))
    return made


def test_packs_train_in_turn_when_all_their_members_want_an_epoch():
    made = group(a=A, b=B, c=A)
    assert [made.next_pack() for _ in range(3)] == [A.data, B.data, A.data]
    made.members["c"].wants_epoch = False
    assert [made.next_pack() for _ in range(2)] == [B.data, B.data]
    made.members["b"].wants_epoch = False
    assert made.next_pack() is None


def test_a_member_is_removed_with_its_last_result_only():
    made = group(a=A, b=A)
    trial = made.members["a"]
    made.deliver(EpochResult("a", 1))
    assert trial.group == "p"
    made.deliver(EpochResult("a", 2, done=True))
    made.deliver(EpochResult("a", 3))
    assert trial.group is None
    assert list(made.members) == ["b"]
    assert [result.epoch for result in trial.results] == [1, 2]


def test_out_of_memory_makes_the_group_smaller_and_only_a_lone_member_fails():
    made = group(a=A, b=A)
    first, second = made.members.values()
    made.deliver(EpochResult("a", error="out of memory", memory=True))
    assert first.waits
    assert not first.results
    assert made.size.capacity == 1
    assert made.room == 0
    made.deliver(EpochResult("b", error="out of memory", memory=True))
    assert second.results
    assert second.group is None


def test_what_ran_out_for_all_halves_the_group_once_and_blames_nobody():
    made = group(**dict.fromkeys("abcdefgh", A))
    made.size.capacity = 8
    members = list(made.members.values())
    made.deliver(*(EpochResult(member.key, error="out of memory", memory=True) for member in members))
    assert made.size.capacity == 4
    assert made.members == {}
    assert all(member.waits and not member.results for member in members)


def test_a_trial_of_several_seeds_takes_as_many_places_and_fits_an_empty_group_at_any_rate():
    made = group()
    wide, other, narrow = (
        JoinedTrial(request(k, A, seeds=n), 0.0, wants_epoch=True) for k, n in (("w", 3), ("o", 3), ("n", 1))
    )
    made.add(wide)
    assert made.room == 1
    assert not made.fits(other)
    assert made.fits(narrow)
    made.add(narrow)
    made.deliver(EpochResult("w", error="out of memory", memory=True))
    assert made.size.capacity == 3, "one less than the four learners that memory did not hold"
    assert not made.fits(wide)
    made.deliver(EpochResult("n", 1, done=True))
    made.size.on_oom(1)
    assert made.size.capacity == 1
    assert made.fits(wide), "else it would wait for ever"


def test_a_forgotten_member_is_stopped_at_the_next_boundary_once():
    made = group(a=A, b=A)
    made.faults.suspects = ["a", "b"]
    made.forget("a")
    made.forget("nobody")
    made.members["b"].leaving = True
    assert made.faults.suspects == ["b"]
    assert made.dismiss() == ["a", "b"]
    assert made.dismiss() == []
    assert not made.members


def test_a_released_group_holds_nobody_and_stops_nobody():
    made = group(a=A, b=A)
    trials = list(made.members.values())
    made.forget("b")
    made.release()
    assert trials[0].waits
    assert not made.members
    assert not made.dropped

"""How many learners a pack takes."""

from hypothesis import given
from hypothesis import strategies as st

from raydistill.sweep.workers.capacity import INITIAL_LEARNERS, MAX_MEMORY_FRACTION, CapacityController
from raydistill.training.messages import EpochStats


def sharing(learners, memory=0.01):
    return EpochStats(learners, seconds=1.0, own_seconds=0.5, memory=memory)


def test_a_number_stays_what_the_user_said():
    size = CapacityController(3)
    size.observe(sharing(3))
    assert size.capacity == 3


def test_it_doubles_while_full_and_sharing():
    size = CapacityController(most=20)
    seen = [size.capacity]
    for _ in range(5):
        size.observe(sharing(size.capacity))
        seen.append(size.capacity)
    assert seen == [4, 8, 16, 20, 20, 20]


def test_it_grows_by_whole_trials_of_several_seeds():
    size = CapacityController(most=20, unit=3)
    seen = [size.capacity]
    for _ in range(4):
        size.observe(sharing(size.capacity))
        seen.append(size.capacity)
    assert seen == [3, 6, 12, 18, 18]
    assert CapacityController(most=4, unit=9).capacity == 9, "one trial fits at any rate"
    assert CapacityController(4, unit=3).capacity == 4


def test_a_pack_that_is_not_full_says_nothing_about_more():
    size = CapacityController()
    size.observe(sharing(INITIAL_LEARNERS - 1))
    assert size.capacity == INITIAL_LEARNERS


def test_nothing_to_share_ends_the_growth_for_good():
    size = CapacityController()
    size.observe(EpochStats(INITIAL_LEARNERS, seconds=1.0, own_seconds=0.97))
    size.observe(sharing(INITIAL_LEARNERS))
    assert size.capacity == INITIAL_LEARNERS


def test_memory_ends_the_growth():
    size = CapacityController()
    size.observe(sharing(4, memory=0.2))
    assert size.capacity == 8
    size.observe(sharing(8, memory=0.5))
    assert size.capacity == 8, "16 would take 1.1 of it"


def test_after_memory_ran_out_it_grows_no_more():
    size = CapacityController()
    size.observe(sharing(4))
    size.on_oom(6)
    size.observe(sharing(6))
    assert size.capacity == 6


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=10), st.integers(1, 64))
def test_it_stays_in_its_bounds_and_never_passes_what_memory_holds(loads, most):
    size = CapacityController(most=most)
    for memory, alone in loads:
        before = size.capacity
        size.observe(EpochStats(size.capacity, seconds=1.0, own_seconds=alone, memory=memory))
        assert before <= size.capacity <= most
        assert size.capacity == before or memory <= MAX_MEMORY_FRACTION

"""How many learners a pack takes."""

from hypothesis import given
from hypothesis import strategies as st

from raydistill.sweep.sizing import FIRST, MEMORY, Size
from raydistill.training.messages import Load


def sharing(learners, memory=0.01):
    return Load(learners, wall=1.0, alone=0.5, memory=memory)


def test_a_number_stays_what_the_user_said():
    size = Size(3)
    size.measured(sharing(3))
    assert size.capacity == 3


def test_it_doubles_while_full_and_sharing():
    size = Size(most=20)
    seen = [size.capacity]
    for _ in range(5):
        size.measured(sharing(size.capacity))
        seen.append(size.capacity)
    assert seen == [4, 8, 16, 20, 20, 20]


def test_a_pack_that_is_not_full_says_nothing_about_more():
    size = Size()
    size.measured(sharing(FIRST - 1))
    assert size.capacity == FIRST


def test_nothing_to_share_ends_the_growth_for_good():
    size = Size()
    size.measured(Load(FIRST, wall=1.0, alone=0.97))
    size.measured(sharing(FIRST))
    assert size.capacity == FIRST


def test_memory_ends_the_growth():
    size = Size()
    size.measured(sharing(4, memory=0.2))
    assert size.capacity == 8
    size.measured(sharing(8, memory=0.5))
    assert size.capacity == 8, "16 would take 1.1 of it"


def test_after_memory_ran_out_there_is_one_less():
    size = Size()
    size.measured(sharing(4))
    size.ran_out(7)
    size.measured(sharing(6))
    assert size.capacity == 6


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=10), st.integers(1, 64))
def test_it_stays_in_its_bounds_and_never_passes_what_memory_holds(loads, most):
    size = Size(most=most)
    for memory, alone in loads:
        before = size.capacity
        size.measured(Load(size.capacity, wall=1.0, alone=alone, memory=memory))
        assert before <= size.capacity <= most
        assert size.capacity == before or memory <= MEMORY

"""Values of a search space that workers, images or the method do not allow are refused before Ray starts."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError
from raydistill.sweep.preflight.checks import check_batch_sizes, check_values
from raydistill.sweep.search.space import Parameter, Space
from raydistill.sweep.settings import SweepSettings


def space_of(*parameters):
    return Space("random", "val_knn", "maximize", None, None, parameters)


def values(*sizes):
    return Parameter("data.batch_size", "categorical", sizes)


def range_(low, high, q=None):
    return Parameter("data.batch_size", "int_uniform" if q is None else "q_uniform", low=low, high=high, q=q)


@pytest.mark.parametrize(
    ("parameter", "workers"),
    [(values(32, 64), 4), (values(100), 1), (range_(2, 100), 1), (range_(16, 100, 16), 8), (range_(16, 107, 12), 4)],
)
def test_what_divides_and_fits_passes(parameter, workers):
    check_batch_sizes(space_of(Parameter("train.lr", "constant", (0.1,)), parameter), workers, 100)


def test_only_the_batch_size_is_looked_at():
    check_batch_sizes(space_of(Parameter("method.hidden_dim", "categorical", (3, 1000))), 2, 100)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("parameter", "workers", "message"),
    [
        (values(32, 66), 4, "= 66: does not divide among 4 workers; use multiples of 4"),
        (values(128, 64), 3, "= 128: does not divide among 3 workers"),
        (values(64, 102), 2, "= 102: is larger than the 101 training images; use at most 100"),
        (range_(16, 64), 2, "= 17: does not divide among 2 workers"),
        (range_(16, 64, 8), 16, "= 24: does not divide among 16 workers"),
        (range_(18, 64, 16), 16, "= 18: does not divide among 16 workers"),
        (range_(16, 120, 16), 16, "= 112: is larger than the 101 training images; use at most 96"),
        (Parameter("data.batch_size", "q_log_uniform_values", low=16, high=256, q=16), 4, "= 256: is larger"),
    ],
)
def test_the_parameter_and_the_value_are_named(parameter, workers, message):
    with pytest.raises(ConfigError) as caught:
        check_batch_sizes(space_of(parameter), workers, 101)
    assert f"parameters.data.batch_size {message}" in str(caught.value)


def test_a_range_without_end_is_judged_at_once():
    begin = time.monotonic()
    with pytest.raises(ConfigError, match="= 1000000000000000: is larger"):
        check_batch_sizes(space_of(range_(2, 10**15)), 1, 1000)
    assert time.monotonic() - begin < 1


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.integers(0, 60), st.integers(1, 12), st.integers(1, 6), st.integers(10, 90))
def test_a_range_passes_exactly_when_each_of_its_values_does(low, more, q, workers, images):
    parameter = range_(low, low + q + more, q)
    allowed = all(size % workers == 0 and size <= images for size in parameter.grid())
    try:
        check_batch_sizes(space_of(parameter), workers, images)
    except ConfigError:
        assert not allowed
    else:
        assert allowed


def built(tmp_path, parameters, build):
    space = space_of(*parameters)
    plan = SweepSettings("s", tmp_path, "sqlite://", config.load({"method": "seed"}), space, 1)
    check_values(plan, build)


@pytest.mark.fault(17)
def test_a_value_that_cannot_be_built_is_named(tmp_path):
    def build(run):
        if run.method.queue_size > 1000:
            raise ValueError("longer than the data")

    parameters = [
        Parameter("method.queue_size", "categorical", (128, 2048)),
        Parameter("method.hidden_dim", "categorical", (16, 32)),
    ]
    with pytest.raises(ConfigError, match=r"parameters\.method\.queue_size = 2048: longer than the data"):
        built(tmp_path, parameters, build)


def test_a_value_that_needs_certain_company_is_not_refused(tmp_path):
    def build(run):
        if run.method.queue_size > run.method.hidden_dim:
            raise ValueError("too long for so few")

    parameters = [
        Parameter("method.hidden_dim", "categorical", (16, 2048)),
        Parameter("method.queue_size", "categorical", (16, 2048), when={"method.hidden_dim": (2048,)}),
    ]
    built(tmp_path, parameters, lambda run: None if run.method.hidden_dim == 16 else build(run))


def test_real_numbers_are_left_to_their_bounds(tmp_path):
    def build(run):
        raise ValueError("never")

    built(tmp_path, [Parameter("method.tau_t", "uniform", low=0.1, high=1.0)], build)

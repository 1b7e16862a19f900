"""What the benchmarks share: no figure without repeats, and no nonsense."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "analysis" / "benchmarks" / "measure.py"


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("measure", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_figure_has_the_least_and_the_most(measure):
    assert measure.spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert str(measure.spread([3.0, 1.0, 2.0])) == "2.00 (1.00 to 3.00)"
    assert measure.spread([3.0, 1.0, 2.0]) / 2 == (1.0, 0.5, 1.5)


def test_a_ratio_has_a_spread(measure):
    assert measure.ratio([4.0, 6.0, 8.0], [1.0, 2.0, 4.0]) == (3.0, 1.0, 8.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0]])
def test_too_few_repeats_are_an_error(measure, values):
    for figure in (measure.spread, lambda v: measure.ratio(v, [1.0] * 3), lambda v: measure.difference(v, [1.0] * 3)):
        with pytest.raises(measure.MeasurementError, match="too few"):
            figure(values)
    with pytest.raises(measure.MeasurementError, match="too few"):
        measure.in_turn({"a": lambda: pytest.fail("it ran")}, len(values))


@pytest.mark.parametrize("worst", [0.0, -0.1])
def test_a_time_that_is_not_positive_is_an_error(measure, worst):
    with pytest.raises(measure.MeasurementError, match="not above zero"):
        measure.spread([1.0, worst, 2.0])


def test_a_difference_that_noise_covers_is_an_error(measure):
    assert measure.difference([5.0, 6.0, 7.0], [1.0, 2.0, 3.0]) == (4.0, 2.0, 6.0)
    for large in ([0.5, 0.6, 0.7], [2.0, 6.0, 7.0]):
        with pytest.raises(measure.MeasurementError, match="lost in their noise"):
            measure.difference(large, [1.0, 2.0, 3.0])


def test_arms_take_turns_and_the_first_turn_is_dropped(measure):
    now, ran = [0.0], []

    def arm(name, seconds):
        def step():
            ran.append(name)
            now[0] += seconds * (100 if len(ran) <= 4 else 1)

        return step

    seconds = measure.in_turn({"a": arm("a", 1.0), "b": arm("b", 2.0)}, 3, steps=2, clock=lambda: now[0])
    assert seconds == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert ran == ["a", "a", "b", "b"] * 4


def test_what_is_printed_has_the_spread_beside_the_figure(measure):
    figures = {"x": measure.spread([1.0001, 2.0, 3.0])}
    assert measure.as_json(figures) == {"x": 2.0, "x_spread": [1.0, 3.0]}

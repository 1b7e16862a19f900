"""A search space fits the number of training images, and asks nothing of teachers that are given."""

import pytest
from helpers.builders.spacefiles import read
from hypothesis import given
from hypothesis import strategies as st

from raydistill.config import ConfigError
from raydistill.sweep.search.adapt import fit_to_images, without_teacher_settings
from raydistill.sweep.search.space import Parameter, Space

QUEUE = "method.queue_size: {values: [128, 1024, 65536], at_most: images}"


def seed(folder, *lines, **others):
    return read(folder, *lines, method="seed", **others)


def space_of(*parameters):
    return Space("random", "val_knn", "maximize", None, None, parameters)


def values(space):
    return {parameter.path: parameter.values for parameter in space.parameters}


def test_values_above_the_number_of_images_are_left_out_in_a_line_that_says_which(tmp_path):
    notes = []
    space = seed(tmp_path, QUEUE, "method.tau_s: {values: [0.1, 0.2]}")
    few = fit_to_images(space, 1150, notes.append)
    assert values(few) == {"method.queue_size": (128, 1024), "method.tau_s": (0.1, 0.2)}
    assert notes == ["method.queue_size: 65536 left out: above 1150 (at_most: images)"]
    many = fit_to_images(space, 100_000, notes.append)
    assert values(many)["method.queue_size"] == (128, 1024, 65536)
    assert len(notes) == 1, "nothing is said where nothing is left out"


def test_a_part_of_the_images_may_be_the_limit(tmp_path):
    notes = []
    line = "method.clusters: {values: [10, 230, 231, 5000], at_most: images / 5}"
    fitted = fit_to_images(read(tmp_path, line, method="sssd"), 1150, notes.append)
    assert values(fitted) == {"method.clusters": (10, 230)}
    assert notes == ["method.clusters: 231, 5000 left out: above 230 (at_most: images / 5)"]


def test_a_range_ends_at_the_limit(tmp_path):
    notes = []
    line = "method.queue_size: {distribution: q_log_uniform_values, min: 128, max: 65536, q: 128, at_most: images}"
    (fitted,) = fit_to_images(seed(tmp_path, line), 1150, notes.append).parameters
    assert (fitted.low, fitted.high, fitted.grid()[-1]) == (128, 1150, 1024)
    assert notes == ["method.queue_size: searched up to 1150 (at_most: images)"]


def test_no_value_stays_one(tmp_path):
    line = "method.hidden_dim: {values: [none, 512, 2048], at_most: images}"
    fitted = fit_to_images(seed(tmp_path, line), 600, lambda _: None)
    assert values(fitted) == {"method.hidden_dim": (None, 512)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (QUEUE, r"method\.queue_size\.values = \[128, 1024, 65536\]: all are above 100 \(at_most: images\)"),
        ("method.queue_size: {min: 100, max: 200, at_most: images}", r"queue_size\.min = 100: leaves nothing"),
    ],
)
def test_a_parameter_that_keeps_no_value_is_refused(tmp_path, line, message):
    with pytest.raises(ConfigError, match=message):
        fit_to_images(seed(tmp_path, line), 100, lambda _: None)


def test_what_depends_on_a_value_that_is_left_out_goes_with_it(tmp_path):
    notes = []
    space = seed(
        tmp_path,
        QUEUE,
        "method.tau_s: {values: [0.1, 0.2], when: {method.queue_size: [1024, 65536]}}",
        "method.strategy: {values: [same, cross], when: {method.queue_size: [65536]}}",
        "method.own_positive: {value: false, when: {method.strategy: [cross]}}",
    )
    fitted = fit_to_images(space, 1150, notes.append)
    assert values(fitted) == {"method.queue_size": (128, 1024), "method.tau_s": (0.1, 0.2)}
    assert fitted.parameters[1].when == {"method.queue_size": (1024,)}
    assert notes[-1].startswith("method.strategy: not searched")


def test_a_condition_that_a_fixed_setting_never_meets_stays_as_it_was(tmp_path):
    space = seed(
        tmp_path,
        "method.strategy: {values: [same, cross]}",
        "method.tau_s: {values: [0.1, 0.2], when: {method.strategy: [cross]}}",
        fixed={"method.strategy": "same"},
    )
    assert fit_to_images(space, 1150, lambda _: None) == space


@given(st.lists(st.integers(1, 100), min_size=1, unique=True).map(tuple), st.integers(1, 4), st.integers(4, 120))
def test_exactly_the_values_within_the_limit_stay(listed, divisor, images):
    space = space_of(Parameter("method.queue_size", "categorical", listed, divisor=divisor))
    allowed = tuple(value for value in listed if value * divisor <= images)
    if not allowed:
        with pytest.raises(ConfigError, match="all are above"):
            fit_to_images(space, images, lambda _: None)
        return
    fitted = fit_to_images(space, images, lambda _: None)
    assert values(fitted) == {"method.queue_size": allowed}
    assert "at_most" not in fitted.to_dict()["parameters"]["method.queue_size"]
    assert fit_to_images(fitted, 1, lambda _: None) == fitted, "a plain list stays as it is"


# Teachers


def test_how_a_teacher_is_trained_is_not_searched_where_one_is_given(tmp_path):
    notes = []
    space = seed(
        tmp_path,
        "teacher.epochs: {values: [1, 2]}",
        "teacher.backbone: {values: [resnet10_w4, resnet10_w8]}",
        "teacher.bank: {values: [true, false]}",
        "method.tau_s: {values: [0.1, 0.2]}",
        "method.tau_t: {values: [0.1, 0.2], when: {teacher.epochs: [1]}}",
    )
    assert set(values(without_teacher_settings(space, notes.append))) == {"teacher.bank", "method.tau_s"}
    assert notes == ["teacher.backbone, teacher.epochs: not searched, since the teachers are given"]


def test_a_space_of_teachers_alone_is_refused_where_one_is_given(tmp_path):
    with pytest.raises(ConfigError, match=r"teacher\.epochs: the teachers are given, so there is nothing to search"):
        without_teacher_settings(seed(tmp_path, "teacher.epochs: {values: [1, 2]}"), lambda _: None)


def test_of_the_packages_own_space_what_keeps_no_value_is_not_searched(tmp_path):
    notes = []
    inside = "method.momentum: {values: [0.9], when: {method.queue_size: [1024]}}"
    space = seed(tmp_path, QUEUE, inside, "method.tau_s: {values: [0.1, 0.2]}")
    assert values(fit_to_images(space, 100, notes.append, shipped=True)) == {"method.tau_s": (0.1, 0.2)}
    assert notes == ["method.queue_size: not searched, since all values are too large for 100 training images"]
    with pytest.raises(ConfigError, match="all are above 100"):
        fit_to_images(seed(tmp_path, QUEUE), 100, notes.append, shipped=True)

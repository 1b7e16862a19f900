"""Search spaces: what is proposed out of one, and what changed between two."""

import itertools
import json
import math
import random

import pytest
import yaml
from helpers.builders.spacefiles import OBJECTIVES, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.config import assign, load
from raydistill.sweep.search.space import COSTS, METRICS, Parameter, difference
from raydistill.sweep.search.space_parser import load_space

# Proposing


def test_conditions_chain(tmp_path):
    space = read(
        tmp_path,
        "method.tau_c: {when: {method.tau_kd: [0.2]}, values: [1, 2]}",
        "method.lambda_kd: {when: {method.tau_c: [2]}, values: [3, 4]}",
        "method.tau_kd: {values: [0.1, 0.2]}",
    )
    assert [p.path for p in space.parameters] == ["method.tau_kd", "method.tau_c", "method.lambda_kd"]
    assert space.grid() == [
        {"method.tau_kd": 0.1},
        {"method.tau_kd": 0.2, "method.tau_c": 1},
        {"method.tau_kd": 0.2, "method.tau_c": 2, "method.lambda_kd": 3},
        {"method.tau_kd": 0.2, "method.tau_c": 2, "method.lambda_kd": 4},
    ]
    assert not space.contains({"method.tau_kd": 0.1, "method.lambda_kd": 3})
    assert not space.contains({"method.tau_kd": 0.2})
    assert not space.contains({"method.tau_kd": 0.1, "train.lr": 0.1})
    assert not space.contains({"method.tau_kd": 0.3})
    asked = []
    assert space.propose(lambda p: asked.append(p.path) or p.values[0]) == {"method.tau_kd": 0.1}
    assert asked == ["method.tau_kd"]


def test_the_order_in_the_file_changes_nothing(tmp_path):
    lines = (OBJECTIVES, "train.lr: {min: 0.1, max: 1}", "method.tau_c: {values: [1, 2]}")
    spaces = [read(tmp_path, *order) for order in itertools.permutations(lines)]
    assert all(
        list(s.sample(random.Random(3)).items()) == list(spaces[0].sample(random.Random(3)).items()) for s in spaces
    )


@pytest.mark.parametrize(
    ("parameter", "points"),
    [
        (Parameter("p", "q_uniform", low=0.1, high=0.5, q=0.1), [0.1, 0.2, 0.3, 0.4, 0.5]),
        (Parameter("p", "q_uniform", low=16, high=70, q=16), [16, 32, 48, 64]),
        (Parameter("p", "q_log_uniform_values", low=1, high=2, q=0.5), [1.0, 1.5, 2.0]),
        (Parameter("p", "int_uniform", low=-1, high=1), [-1, 0, 1]),
    ],
)
def test_points_of_a_range_are_exact_decimals(parameter, points):
    assert parameter.grid() == points
    assert [type(value) for value in parameter.grid()] == [type(value) for value in points]
    rng = random.Random(0)
    assert {parameter.sample(rng) for _ in range(300)} == set(points)
    assert parameter.round(-1e9) == points[0]
    assert parameter.round(1e9) == points[-1]
    assert not parameter.contains((points[0] + points[1]) / 2)
    assert not any(map(parameter.contains, (True, "1", None, math.nan, math.inf, points[-1] + 16)))


def test_optunas_rounding_of_steps_is_inside():
    parameter = Parameter("p", "q_uniform", low=0.1, high=0.5, q=0.1)
    assert parameter.contains(0.1 + 2 * 0.1)
    assert 0.1 + 2 * 0.1 != 0.3


def test_a_log_scale_gives_each_decade_its_share():
    parameter = Parameter("p", "log_uniform_values", low=1e-4, high=1.0)
    rng = random.Random(0)
    counts = [0] * 4
    for _ in range(4000):
        counts[min(int(math.log10(parameter.sample(rng)) + 4), 3)] += 1
    assert all(abs(count - 1000) < 120 for count in counts)  # more than four standard deviations


def test_a_continuous_range_has_no_grid():
    with pytest.raises(ValueError, match=r"train\.lr .*continuous"):
        Parameter("train.lr", "uniform", low=0.0, high=1.0).grid()


# Properties

FLOATS = ("method.lambda_kd", "method.tau_c", "method.tau_kd", "train.lr", "train.weight_decay", "train.clip_norm")
INTS = ("data.batch_size", "method.hidden_dim", "method.predictor_dim")
positive = st.floats(1e-6, 1e6)


@st.composite
def specs(draw, path, continuous):
    """A valid parameter as a file has it."""
    whole = path in INTS
    scalar = st.integers(2, 4096) if whole else positive
    kinds = ["value", "values", "int_uniform", "q_uniform", "q_log_uniform_values"]
    kinds += ["uniform", "log_uniform_values"] if continuous and not whole else []
    kind = draw(st.sampled_from(kinds))
    if kind == "value":
        return {"value": draw(scalar)}
    if kind == "values":
        return {"values": draw(st.lists(scalar, min_size=1, max_size=4, unique=True))}
    if kind == "int_uniform":
        low = draw(st.integers(2, 50))
        return {"distribution": kind, "min": low, "max": low + draw(st.integers(1, 5))}
    low = draw(scalar)
    if kind.startswith("q_"):
        q = draw(st.integers(1, 64)) if whole else low * draw(st.floats(0.01, 2))
        return {"distribution": kind, "min": low, "max": low + (5 if whole else 4.5) * q, "q": q}
    return {"distribution": kind, "min": low, "max": low * draw(st.floats(1.001, 1e3))}


STOPS = [
    {},
    *({"early_terminate": {"type": kind, "eta": 2}} for kind in ("hyperband", "bohb")),
    {"early_terminate": {"type": "median", "min_iter": 2}},
]


@st.composite
def files(draw, search):
    chosen = draw(st.lists(st.sampled_from(FLOATS + INTS), max_size=2, unique=True))
    parameters = {path: draw(specs(path, continuous=search != "grid")) for path in chosen}
    parameters["method.objectives"] = {"values": [["simclr"], ["simclr", "simsiam"], ["simsiam"]]}
    when = draw(st.sampled_from([None, [["simsiam"]], [["simclr"], ["simsiam"]]]))
    if when:
        parameters["method.lambda_simsiam"] = {"values": [0.5, 1], "when": {"method.objectives": when}}
    name = draw(st.sampled_from(sorted(METRICS.keys() - set(COSTS))))
    file = {"method": search, "metric": {"name": name, "goal": METRICS[name]}, "parameters": parameters}
    return file | draw(st.sampled_from([{}, {"run_cap": 3}])) | draw(st.sampled_from(STOPS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spaces")


def usable(settings_):
    load(assign({"method": {"name": "dogo"}}, settings_))
    return True


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(files("random"), st.integers(0, 2**32))
def test_every_sample_is_inside_and_a_valid_configuration(folder, file, seed):
    space = load_space(write(folder, file), "dogo", {})
    sample = space.sample(random.Random(seed))
    assert space.contains(sample)
    assert usable(sample)
    assert sample == space.sample(random.Random(seed))
    active = "method.lambda_simsiam" in sample
    when = file["parameters"].get("method.lambda_simsiam", {"when": {"method.objectives": []}})["when"]
    assert active == (sample["method.objectives"] in when["method.objectives"])


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(files("grid"))
def test_a_grid_is_complete_has_no_duplicates_and_is_inside(folder, file):
    space = load_space(write(folder, file), "dogo", {})
    grid = space.grid()
    assert len({json.dumps(point, sort_keys=True) for point in grid}) == len(grid)
    assert all(map(space.contains, grid))
    assert all(map(usable, grid[:3]))
    plain = math.prod(len(p.grid()) for p in space.parameters if not p.when)
    lambdas = file["parameters"].get("method.lambda_simsiam")
    extra = len(lambdas["when"]["method.objectives"]) * plain // 3 if lambdas else 0
    assert len(grid) == plain + extra


@settings(max_examples=60, deadline=None)
@given(st.one_of(files("random"), files("grid"), files("bayes")))
def test_the_stored_form_is_read_back_as_the_same_space(folder, file):
    space = load_space(write(folder, file), "dogo", {})
    stored = yaml.safe_load(yaml.safe_dump(space.to_dict()))
    assert difference(stored, space.to_dict()) == []
    again = load_space(write(folder, stored), "dogo", {})
    assert again == space
    assert again.to_dict() == space.to_dict()


@pytest.mark.parametrize(("written", "stored"), [("images", "images"), ("images/5", "images / 5")])
def test_a_limit_by_the_images_is_stored_and_read_back(folder, written, stored):
    for line in ({"values": [8, 16]}, {"min": 8, "max": 16}):
        file = {"method": "random", "parameters": {"method.hidden_dim": {**line, "at_most": written}}}
        space = load_space(write(folder, file), "dogo", {})
        assert space.to_dict()["parameters"]["method.hidden_dim"]["at_most"] == stored
        assert load_space(write(folder, space.to_dict()), "dogo", {}) == space


# Comparing


def test_difference_names_what_changed():
    old = {"method": "bayes", "parameters": {"a.b": {"values": [0.1]}, "c.d": {"value": 1}}, "run_cap": 3}
    new = {"method": "grid", "parameters": {"a.b": {"values": [0.1, 0.2]}, "e.f": {"value": None}}, "run_cap": 3}
    assert difference(old, new) == [
        "method: bayes -> grid",
        "parameters.a.b.values: [0.1] -> [0.1, 0.2]",
        "parameters.c.d: {'value': 1} -> (absent)",
        "parameters.e.f: (absent) -> {'value': None}",
    ]
    assert difference({"a": None}, {}) == ["a: None -> (absent)"]
    assert difference(old, old) == []

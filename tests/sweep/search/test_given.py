"""Settings that a user adds to a running search: read as the space has them, or refused in its words."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.config import ConfigError
from raydistill.records.journal import TrialRecord
from raydistill.sweep.search.given import check_given, parse_given
from raydistill.sweep.search.samplers import PriorTrials, make_proposer, observe_past_trials
from raydistill.sweep.search.space_parser import parse_space

BOTH = [["simclr"], ["simclr", "simsiam"]]
SPACE = {
    "method": "random",
    "parameters": {
        "train.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "method.tau_kd": {"values": [0.05, 0.1, 1.0]},
        "method.objectives": {"values": BOTH},
        "method.lambda_simsiam": {"min": 0.1, "max": 10, "when": {"method.objectives": [BOTH[1]]}},
        "method.hidden_dim": {"min": 16, "max": 64},
    },
}
DOGO = parse_space(SPACE, "space", "dogo", {})


def test_sections_may_be_left_out_and_values_are_those_of_the_space():
    found = parse_given(DOGO, ["lr=1e-3", "method.tau_kd=1", "hidden_dim=32"])
    assert found == {"train.lr": 0.001, "method.tau_kd": 1.0, "method.hidden_dim": 32}
    assert [type(value) for value in found.values()] == [float, float, int]
    beside = ["objectives=[simclr, simsiam]", "lambda_simsiam=2"]
    assert parse_given(DOGO, beside) == {"method.objectives": BOTH[1], "method.lambda_simsiam": 2.0}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lr=1"], "train.lr = 1: train.lr never has this value; it has {'distribution': 'log_uniform_values', 'min'"),
        (["tau_kd=0.2"], "method.tau_kd = 0.2: method.tau_kd never has this value; it has {'distribution': 'categ"),
        (["hidden_dim=32.5"], "method.hidden_dim = 32.5: method.hidden_dim never has this value"),
        (["tau_k=0.1"], "tau_k: not a parameter of the search space; did you mean 'tau_kd'?"),
        (["train.weight_decay=0"], "train.weight_decay: not a parameter of the search space"),
        (["lr"], "'lr': write a setting and its value, for instance lr=0.003"),
        (["lr=[1"], "'lr=[1': the value is not valid YAML"),
        (["lr=0.01", "train.lr=0.02"], "train.lr: is given twice"),
        (["lambda_simsiam=2"], "method.lambda_simsiam = 2.0: is searched only where method.objectives is one of"),
        (["objectives=[simclr]", "lambda_simsiam=2"], "method.lambda_simsiam = 2.0: is searched only where"),
        ([], "give a setting to try"),
    ],
)
def test_what_the_space_does_not_have_is_refused(texts, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_given(DOGO, texts)


def test_a_name_of_several_sections_needs_its_section():
    sizes = {"values": [8, 16]}
    parameters = {"teacher.batch_size": sizes, "data.batch_size": sizes}
    space = parse_space({"method": "random", "parameters": parameters}, "space", "seed", {})
    with pytest.raises(ConfigError, match=r"batch_size: may be data.batch_size or teacher.batch_size; write one of"):
        parse_given(space, ["batch_size=8"])
    assert parse_given(space, ["data.batch_size=8"]) == {"data.batch_size": 8}


@pytest.mark.parametrize("search", ["random", "bayes"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_what_is_proposed_with_given_settings_has_them_and_lies_in_the_space(tmp_path_factory, search, data):
    space = parse_space(SPACE | {"method": search}, "space", "dogo", {})
    whole = space.sample(random.Random(data.draw(st.integers(0, 10**6))))
    chosen = {path: value for path, value in whole.items() if data.draw(st.booleans())}
    if "method.lambda_simsiam" in chosen:
        chosen["method.objectives"] = whole["method.objectives"]
    if not chosen:
        return
    check_given(space, chosen)
    proposer = make_proposer(space, trials=3, seed=0, directory=tmp_path_factory.mktemp("s"), name="s")
    found = proposer.propose_with("t0000", chosen)
    assert space.contains(found)
    assert {path: found[path] for path in chosen} == chosen


def record(key, chosen, *, added=False):
    return TrialRecord(key, chosen, {"train": {"epochs": 1}}, {1: {"val_knn": 0.1}}, "finished", added=added)


@pytest.mark.parametrize("search", ["random", "grid"])
@pytest.mark.parametrize("resumed_after", range(5))
def test_a_resume_goes_on_with_what_was_not_tried(tmp_path, search, resumed_after):
    """With an addition among the trials, the others are those that they would have been without the resume."""
    parameters = {"method.tau_kd": {"values": [0.05, 0.1, 0.2, 0.5, 1.0]}}
    space = parse_space({"method": search, "parameters": parameters}, "space", "dogo", {})

    def begun():
        return make_proposer(space, trials=5, seed=0, directory=tmp_path, name="s")

    def tried(proposer, numbers):
        for number in numbers:
            key, given = f"t{number:04d}", {"method.tau_kd": 0.5}
            found = proposer.propose_with(key, given) if number == 1 else proposer.propose(key)
            yield record(key, found, added=number == 1)

    whole = list(tried(begun(), range(5)))
    before = list(tried(begun(), range(resumed_after)))
    again = begun()
    observe_past_trials(again, before)
    assert [*before, *tried(again, range(resumed_after, 5))] == whole
    if search == "grid":
        assert len({each.settings["method.tau_kd"] for each in whole}) == 5, "each point once"


def test_an_addition_comes_before_hints_that_wait(tmp_path):
    space = parse_space(SPACE | {"method": "bayes"}, "space", "dogo", {})
    hint = {"train.lr": 0.01, "method.tau_kd": 0.1, "method.objectives": ["simclr"], "method.hidden_dim": 20}
    known = PriorTrials(hints=[hint])
    proposer = make_proposer(space, trials=9, seed=0, directory=tmp_path, name="s", earlier=known)
    assert proposer.propose_with("t0000", {"method.tau_kd": 1.0})["method.tau_kd"] == 1.0
    assert proposer.propose("t0001") == hint
    proposer.finish("t0000", "finished", {"val_knn": 0.5})
    states = {trial.user_attrs["key"]: trial.state.name for trial in proposer._study.trials}
    assert states == {"t0000": "COMPLETE", "t0001": "RUNNING"}

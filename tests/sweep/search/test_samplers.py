"""The model-based search and warm starts, without a cluster: what the study knows after a resume."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from raydistill import config
from raydistill.records.journal import Journal, TrialRecord
from raydistill.storage import Remote
from raydistill.sweep.search.samplers import PriorTrials, make_proposer
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.search.warm_start import load_prior_trials
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec

ONE = "method: bayes\nmetric: {name: val_knn}\nparameters: {train.lr: {min: 0.001, max: 0.1}}\n"
TWO = (
    "method: bayes\nmetrics: [{name: val_knn}, {name: student_parameters, goal: minimize}]\n"
    "parameters: {train.lr: {min: 0.001, max: 0.1}}\n"
)
PLACES = [Path(), Remote("s3://nowhere/sweep")]


def proposer(tmp_path, text, place, **options):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    directory = tmp_path if isinstance(place, Path) else place
    return make_proposer(load_space(file, "simclr", {}), trials=30, seed=0, directory=directory, name="s", **options)


def states(search):
    return {trial.user_attrs.get("key"): trial.state.name for trial in search._study.trials}


def record(key, outcome, *scores, lr=0.01):
    results = {epoch: {"val_knn": score, "student_parameters": 5.0} for epoch, score in enumerate(scores, 1)}
    return TrialRecord(key, {"train.lr": lr}, {"train": {"epochs": 3}}, results, outcome)


@pytest.mark.parametrize("place", PLACES, ids=["file", "bucket"])
@pytest.mark.parametrize("text", [ONE, TWO], ids=["one metric", "two metrics"])
def test_a_study_that_is_gone_is_made_anew_from_the_journal(tmp_path, place, text):
    search = proposer(tmp_path, text, place)
    ended = [record(f"t{n:04d}", "finished", 0.1, 0.2, n / 20, lr=0.001 * (n + 1)) for n in range(12)]
    ended += [record("t0012", "stopped_early", 0.1), record("t0013", "failed"), record("t0014", None, 0.1)]
    search.remember(ended)
    assert list(states(search).values()) == ["COMPLETE"] * 12 + ["PRUNED", "FAIL", "RUNNING"]
    search.remember(ended)
    assert len(states(search)) == 15, "nothing twice"
    for number in range(15, 20):
        assert 0.001 <= search.propose(f"t{number:04d}")["train.lr"] <= 0.1
    search.observe("t0014", 2, {"val_knn": 0.3, "student_parameters": 5.0})
    search.finish("t0014", "finished", {"val_knn": 0.4, "student_parameters": 5.0})
    assert states(search)["t0014"] == "COMPLETE"


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsga2"])
def test_every_point_of_a_small_space_is_proposed_once_and_then_none(tmp_path, sampler):
    parameters = "{method.tau_c: {values: [0.1, 0.5]}, train.warmup_epochs: {values: [0, 1, 2]}}"
    text = f"method: bayes\nsampler: {sampler}\nparameters: {parameters}\n"
    search = proposer(tmp_path, text, PLACES[1])
    found = []
    for number in range(6):
        settings = search.propose(f"t{number}")
        found.append((settings["method.tau_c"], settings["train.warmup_epochs"]))
        search.finish(f"t{number}", ("finished", "stopped_early", "failed")[number % 3], {"val_knn": number / 6})
    assert sorted(found) == list(itertools.product([0.1, 0.5], [0, 1, 2]))
    assert search.propose("t6") is None
    assert "RUNNING" not in states(search).values()
    passed_over = [trial for trial in search._study.trials if "key" not in trial.user_attrs]
    assert all(trial.user_attrs == {"repeated": True} for trial in passed_over)


def test_settings_of_before_a_resume_are_not_proposed_again(tmp_path):
    text = "method: bayes\nparameters: {train.lr: {values: [0.001, 0.002, 0.01]}}\n"
    search = proposer(tmp_path, text, PLACES[1])
    search.remember([record("t0000", "finished", 0.5, lr=0.01), record("t0001", "failed", lr=0.001)])
    assert search.propose("t0002") == {"train.lr": 0.002}
    assert search.propose("t0003") is None


def test_a_range_that_is_not_active_does_not_end_the_search(tmp_path):
    """Of two draws without momentum only one is new; the range beside it is inexhaustible."""
    lr = "{min: 0.001, max: 0.1, when: {train.optimizer: [sgd]}}"
    text = f"method: bayes\nparameters: {{train.optimizer: {{values: [adam, sgd]}}, train.lr: {lr}}}\n"
    search = proposer(tmp_path, text, PLACES[1])
    found = [search.propose(f"t{number}") for number in range(30)]
    assert found.count({"train.optimizer": "adam"}) == 1
    assert len({each.get("train.lr") for each in found}) == 30


@pytest.mark.parametrize("place", PLACES, ids=["file", "bucket"])
@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_resume_does_not_propose_the_first_trials_again(tmp_path, place, sampler):
    text = ONE.replace("bayes\n", f"bayes\nsampler: {sampler}\n")
    search, tried = proposer(tmp_path, text, place), []
    for number in range(2):
        tried.append(
            record(f"t{number:04d}", "finished", 0.1, 0.2, 0.3, lr=search.propose(f"t{number:04d}")["train.lr"])
        )
        search.finish(tried[-1].key, "finished", {"val_knn": 0.3})
    again = proposer(tmp_path, text, place)
    again.remember(tried)
    rates = [again.propose(f"t{number:04d}")["train.lr"] for number in range(2, 4)]
    assert not {each.settings["train.lr"] for each in tried} & set(rates)
    assert len(set(rates)) == 2


@pytest.mark.fault(4)
def test_what_was_asked_for_in_the_moment_of_a_kill_is_not_left_running(tmp_path):
    search = proposer(tmp_path, ONE, PLACES[0])
    search.propose("t0000")
    search._study.ask()
    again = proposer(tmp_path, ONE, PLACES[0])
    again.remember([record("t0000", None)])
    assert states(again) == {"t0000": "RUNNING", None: "FAIL"}


def test_hints_that_were_tried_before_a_resume_are_not_tried_again(tmp_path):
    known = PriorTrials(hints=[{"train.lr": 0.02}, {"train.lr": 0.03}])
    search = proposer(tmp_path, ONE, PLACES[1], earlier=known, tried=[{"train.lr": 0.02}])
    assert search.propose("t0001") == {"train.lr": 0.03}
    assert search.propose("t0002") not in known.hints


def test_an_earlier_sweeps_finals_are_no_hints_and_a_hint_comes_once(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(ONE)
    base = config.load({"method": "simclr", "train": {"epochs": 3}})
    plan = SweepSettings(
        name="new",
        storage=tmp_path,
        tracking_uri="",
        base=base,
        space=load_space(file, "simclr", {}),
        trials=4,
        warm_start=(tmp_path / "old",),
    )
    longer = config.dump(base.model_copy(update={"train": base.train.model_copy(update={"epochs": 5})}))
    journal = Journal(tmp_path / "old" / "journal.jsonl")
    for key, lr, score in (
        ("t0000", 0.01, 0.5),
        ("t0001", 0.02, 0.4),
        ("t0002", 0.01, 0.3),
        ("t0003", 0.03, 0.2),
        ("t0004", 0.04, 0.1),
        ("final-simclr-seed1", 0.05, 0.9),
    ):
        settings = {"train.lr": lr}
        journal.propose(key, settings, TrialSpec(config.load(longer)).assign(settings))
        journal.result(key, 5, {"val_knn": score})
        journal.end(key, "finished")
    assert [hint["train.lr"] for hint in load_prior_trials(plan).hints] == [0.01, 0.02, 0.03]
    own = replace(plan, base=config.load(longer), contents={"train": 100, "digest": "a"})
    assert len(load_prior_trials(own).results) == 5, "a sweep of before does not say which images it had"
    sweep_file = tmp_path / "old" / "sweep.yaml"
    sweep_file.write_text("images: {train: 100, digest: a}\n")
    assert len(load_prior_trials(own).results) == 5
    sweep_file.write_text("images: {train: 90, digest: b}\n")
    found = load_prior_trials(own)
    assert (found.results, len(found.hints)) == ([], 3), "results on other images are settings to try first"


def test_what_another_list_had_becomes_the_nearest_number_of_this_one(tmp_path):
    """And an older sweep's configuration may lack a setting that this version searches."""
    file = tmp_path / "space.yaml"
    file.write_text(
        "method: random\nparameters:\n  method.queue_size: {values: [128, 512, 1024]}\n"
        "  method.strategy: {values: [same, cross]}\n  train.weight_decay: {values: [0, 1e-6, 1e-4]}\n"
        "  method.own_positive: {values: [true, false]}\n"
    )
    base = config.load({"method": "seed", "train": {"epochs": 3}})
    plan = SweepSettings("new", tmp_path, "", base, load_space(file, "seed", {}), 4, warm_start=(tmp_path / "old",))
    journal = Journal(tmp_path / "old" / "journal.jsonl")
    other = config.load(config.assign(config.dump(base), {"train.epochs": 5}))
    for key, score, settings in (
        ("t0000", 0.5, {"method.queue_size": 256, "train.weight_decay": 1e-6}),
        ("t0001", 0.4, {"method.queue_size": 65536, "train.weight_decay": 0.0}),
        ("t0002", 0.3, {"method.queue_size": 300, "train.weight_decay": 1.0}),
        ("t0003", 0.9, {"method.strategy": "large_small"}),
        ("t0004", 0.1, {"method.queue_size": 512, "train.weight_decay": 1e-6}),
    ):
        spec = TrialSpec(other, ("teacher",)).assign(settings)
        journal.propose(key, settings, spec)
        journal.result(key, 5, {"val_knn": score})
        journal.end(key, "finished")
    path = tmp_path / "old" / "journal.jsonl"
    path.write_text(path.read_text().replace('"own_positive": true, ', "").replace('"own_positive":true,', ""))
    assert "own_positive" not in path.read_text()
    same = {"method.strategy": "same", "method.own_positive": True}
    assert load_prior_trials(plan).hints == [
        {"method.queue_size": 128, "train.weight_decay": 1e-6} | same,
        {"method.queue_size": 1024, "train.weight_decay": 0.0} | same,
        {"method.queue_size": 512, "train.weight_decay": 1e-4} | same,
    ], "a name that this list lacks has no nearest"
    known = load_prior_trials(replace(plan, base=other)).results
    assert known == [({"method.queue_size": 512, "train.weight_decay": 1e-6} | same, {"val_knn": 0.1})]

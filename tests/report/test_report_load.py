"""A sweep read back from MLflow: what was logged, with its types."""

import json

import pandas as pd
import pytest
import yaml

from raydistill import config
from raydistill.config import ConfigError
from raydistill.records.journal import Journal
from raydistill.report import frames, load, sweeps
from raydistill.tracking.sync import log_trials
from raydistill.tracking.tracker import Tracker
from raydistill.trial_spec import TrialSpec

SPACE = {
    "method": "random",
    "metric": {"name": "val_knn", "goal": "maximize"},
    "parameters": {
        "method.objectives": {"distribution": "categorical", "values": [["simclr"], ["simclr", "simsiam"]]},
        "method.lambda_simsiam": {
            "distribution": "log_uniform_values",
            "min": 0.1,
            "max": 10,
            "when": {"method.objectives": [["simclr", "simsiam"]]},
        },
        "train.clip_norm": {"distribution": "categorical", "values": [None, 1.0]},
        "train.optimizer": {"distribution": "constant", "value": "adam"},
    },
}


def params(objectives, clip):
    return {
        "method.objectives": objectives,
        "method.lambda_simsiam": 2.5,
        "train.clip_norm": clip,
        "train.optimizer": "adam",
        "train.nesterov": False,
    }


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{folder}/mlflow.db"
    tracker = Tracker(address, "raydistill", "dogo-1", params={}, tags={"raydistill.method": "dogo"})
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"space": SPACE, "trials": 3}, sort_keys=False))
    rows = [{"name": "dogo", "settings": {"train.lr": 0.1}, "epochs": 2, "scores": [{"val_knn": 0.6}]}]
    (folder / "results.json").write_text(json.dumps(rows))
    for file in ("sweep.yaml", "results.json"):
        tracker.artifact(None, folder / file)
    trials = {
        "t0000": (["simclr"], None, [0.3, 0.5], "finished"),
        "t0001": (["simclr", "simsiam"], 1.0, [0.2], "stopped_early"),
        "t0002": (["simclr"], 1.0, [0.4, 0.6], "finished"),
        "final-dogo-seed1": (["simclr"], 1.0, [0.4, 0.7], "finished"),
        "t0003": (["simclr"], 1.0, [], "failed"),
    }
    for key, (objectives, clip, scores, outcome) in trials.items():
        role = "final" if key.startswith("final") else "search"
        tracker.start_trial(key, params(objectives, clip), tags={"raydistill.role": role})
        for epoch, score in enumerate(scores, 1):
            tracker.log(key, epoch, {"val_knn": score, "loss": 1 / epoch, "setting/train.lr": 1.0})
        tracker.end_trial(key, outcome, "no memory" if outcome == "failed" else "")
    assert tracker.close("finished") == 0
    return address


@pytest.mark.slow
def test_frames_hold_what_was_logged(uri):
    sweep = load(uri, "dogo-1")
    assert (sweep.method, sweep.metric, sweep.goal) == ("dogo", "val_knn", "maximize")
    assert list(sweep.trials.index) == ["final-dogo-seed1", "t0000", "t0001", "t0002", "t0003"]
    assert sweep.trials.message["t0003"] == "no memory"
    assert sweep.ranked() == ["t0002", "t0000"]
    assert sweep.role("search", "stopped_early", "failed") == ["t0001", "t0003"]
    assert sweep.scores.val_knn["t0001"] == 0.2
    assert "setting/train.lr" not in sweep.scores
    assert dict(sweep.epochs()) == {"final-dogo-seed1": 2, "t0000": 2, "t0001": 1, "t0002": 2, "t0003": 0}
    assert sweep.rows[0].mean("val_knn") == (0.6, None)


def test_settings_are_those_searched_with_their_types_and_nothing_where_a_condition_leaves_them_out(uri):
    settings = load(uri, "dogo-1").settings
    assert list(settings) == ["method.objectives", "method.lambda_simsiam", "train.clip_norm"]
    assert settings["method.objectives"]["t0001"] == ["simclr", "simsiam"]
    assert settings["method.lambda_simsiam"].dropna().to_dict() == {"t0001": 2.5}
    assert settings["train.clip_norm"].isna().to_dict()["t0000"]
    assert load(uri, "dogo-1").params["train.nesterov"]["t0000"] is False


def test_what_hangs_on_a_setting_that_is_left_out_is_left_out_as_well():
    space = {
        "a": {"values": [1, 2]},
        "b": {"values": [3, 4], "when": {"a": [2]}},
        "c": {"values": [5, 6], "when": {"b": [3]}},
    }
    params = pd.DataFrame([{"a": 1, "b": 3, "c": 5}, {"a": 2, "b": 3, "c": 6}], ["t0", "t1"], dtype=object)
    found = frames.searched(params, space)
    assert found.loc["t0"].isna().tolist() == [False, True, True]
    assert found.loc["t1"].tolist() == [2, 3, 6]
    assert list(frames.searched(params.iloc[:0], space)) == ["a", "b", "c"], "a sweep that has just begun"


def test_settings_are_as_a_population_left_them(tmp_path):
    """Numbers, names, lists and none, from the journal through MLflow."""
    first = {"train.lr": 0.1, "train.optimizer": "adam", "train.clip_norm": 1.0, "method.objectives": ["simclr"]}
    last = {"train.lr": 0.012, "train.optimizer": "sgd", "train.clip_norm": None, "method.objectives": ["simsiam"]}
    journal = Journal(tmp_path / "journal.jsonl")
    for key in ("t0000", "t0001"):
        journal.propose(key, first, spec := TrialSpec(config.load({"method": "dogo"})).assign(first))
    journal.result("t0001", 1, {"val_knn": 0.5, "loss": 1.0})
    journal.copy("t0001", 1, "t0000", last, spec.assign(last))
    journal.close()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    space = {path: {"values": [first[path], last[path]]} for path in first}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"space": {"parameters": space}}))
    tracker = Tracker(uri, "raydistill", "pbt", params={}, system_metrics=False)
    tracker.artifact(None, tmp_path / "sweep.yaml")
    log_trials(tracker, journal.path)
    assert tracker.close("finished") == 0
    sweep = load(uri, "pbt")
    for path in first:
        assert (sweep.setting("t0000", path), sweep.setting("t0001", path)) == (first[path], last[path])
        assert sweep.params[path]["t0001"] == last[path]


def test_a_condition_on_the_name_none_is_one_that_trials_meet():
    space = {"a": {"values": ["none", "linear"]}, "b": {"values": [3, 4], "when": {"a": ["none"]}}}
    params = pd.DataFrame([{"a": None, "b": 3}, {"a": "linear", "b": 4}], ["t0", "t1"], dtype=object)
    found = frames.searched(params, space)
    assert found.loc["t0", "b"] == 3
    assert pd.isna(found.loc["t1", "b"])


def test_reading_makes_no_store(tmp_path):
    for read in (sweeps, lambda address: load(address, "dogo-1")):
        with pytest.raises(ConfigError, match="there is no MLflow store"):
            read(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_curves_are_by_epoch_and_trial(uri):
    curves = load(uri, "dogo-1").curves("val_knn", ["t0000", "t0001"])
    assert curves["t0000"].tolist() == [0.3, 0.5]
    assert curves["t0001"].isna().tolist() == [False, True]


def test_sweeps_are_listed_and_an_unknown_one_is_refused_with_a_near_name(uri):
    assert sweeps(uri).loc["dogo-1", "outcome"] == "finished"
    with pytest.raises(ConfigError, match="did you mean 'dogo-1'"):
        load(uri, "dogo-2")

"""Scores say of which checkpoint they are, and are taken for no other's."""

import json
from types import SimpleNamespace

import pytest
import ray
from helpers.builders.runs import settings, sweep, trial

from raydistill.config import dump
from raydistill.export.resolve import resolve_run
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import SCORES_FILE
from raydistill.records.scores import Scores, identity, read_scores, write_scores
from raydistill.sweep.final import scoring as final_scoring
from raydistill.training.checkpoint_files import newest

TESTED = {"val_knn": 0.75, "test_knn": 0.25}


@pytest.fixture
def folder(tmp_path):
    """Of a trial that was scored at its first epoch."""
    made = sweep(tmp_path / "runs", "demo-1") / "trials" / "t0001"
    write_scores(made, Scores(TESTED, identity(newest(made))))
    return made


def found(folder):
    return resolve_run("demo-1/t0001", folder.parents[2], "").scores


def test_scores_are_those_of_the_checkpoint_that_is_there(folder):
    assert read_scores(folder).checkpoint["epoch"] == 1
    assert found(folder) == TESTED


def test_a_trial_that_trained_on_has_no_test_score_yet(folder):
    trial(folder, epoch=2, epochs=2)
    assert found(folder) == {"val_knn": 0.5}


def test_the_checkpoint_before_a_damaged_one_is_not_given_its_scores(folder):
    trial(folder, epoch=2, epochs=2)
    write_scores(folder, Scores(TESTED, identity(newest(folder))))
    assert found(folder) == TESTED
    newest(folder).write_bytes(b"torn")
    assert found(folder) == {"val_knn": 0.5}


def test_other_weights_of_the_same_epoch_are_told_apart(folder):
    trial(folder, {"name": "simclr", "backbone": "resnet10_w8", "hidden_dim": 8, "projection_dim": 8})
    assert found(folder) == {"val_knn": 0.5}


def test_scores_that_do_not_say_of_what_are_those_of_the_last_epoch(folder):
    (folder / SCORES_FILE).write_text(json.dumps(TESTED))
    assert found(folder) == TESTED
    trial(folder, epoch=2, epochs=2)
    assert found(folder) == {"val_knn": 0.5}, "the journal knows one epoch"


@pytest.mark.parametrize("torn", ['{"val_knn": 0.7', "", "[1]", '{"val_knn": null}'])
def test_torn_scores_are_left_out(folder, torn):
    (folder / SCORES_FILE).write_text(torn)
    assert found(folder) == {"val_knn": 0.5}


def test_a_resumed_sweep_scores_again_what_was_trained_on_or_torn(tmp_path, monkeypatch):
    asked, told = [], []

    def remote(runs, **options):
        asked.extend(place for _, place in runs)
        return [{"test_knn": 0.5} for _ in runs]

    task = SimpleNamespace(remote=remote)
    monkeypatch.setattr(final_scoring.ray, "remote", lambda **options: lambda function: task)
    monkeypatch.setattr(final_scoring.ray, "get", lambda value: value)
    monkeypatch.setattr(final_scoring, "log_scores", lambda tracker, record, folder: told.append(record.key))
    trials = {key: tmp_path / "trials" / key for key in ("same", "longer", "torn", "new", "cleaned", "silent")}
    for key, place in trials.items():
        trial(place)
        if key not in ("new", "silent"):
            write_scores(place, Scores(TESTED, identity(newest(place))))
    trial(trials["longer"], epoch=2, epochs=2)
    (trials["torn"] / SCORES_FILE).write_text("{")
    (trials["silent"] / SCORES_FILE).write_text(json.dumps(TESTED))
    for path in trials["cleaned"].glob("epoch-*"):
        path.unlink()
    driver = SimpleNamespace(trial_directory=lambda key: trials[key], tracker=None)
    records = [TrialRecord(key, {}, dump(settings())) for key in trials]
    for _ in range(2):
        scoring = final_scoring.start_scoring(driver, records, SimpleNamespace(gpu=False, artifacts=tmp_path))
        scores = final_scoring.collect_scores(driver, records, scoring)
        assert {key for key, values in scores.items() if values == {"test_knn": 0.5}} == {"longer", "torn", "new"}
        assert len(asked) == 3, "and no second time"
    assert told == [*trials, *trials]
    assert read_scores(trials["longer"]).checkpoint["epoch"] == 2


def test_one_task_scores_at_most_four_runs_and_each_gets_its_own_scores(tmp_path, monkeypatch):
    sizes = []

    def remote(runs, teachers, store, **options):
        sizes.append(len(runs))
        assert (teachers, store) == ([()] * len(runs), str(tmp_path)), "SimCLR has none"
        return [{"test_knn": float(place.rpartition("-")[2])} for _, place in runs]

    monkeypatch.setattr(final_scoring.ray, "remote", lambda **options: lambda function: SimpleNamespace(remote=remote))
    monkeypatch.setattr(final_scoring.ray, "get", lambda value: value)
    monkeypatch.setattr(final_scoring, "log_scores", lambda *args: None)
    driver = SimpleNamespace(trial_directory=lambda key: tmp_path / key, tracker=None)
    records = [TrialRecord(f"t-{i}", {}, dump(settings())) for i in range(9)]
    for record in records:
        trial(tmp_path / record.key)
    scoring = final_scoring.start_scoring(driver, records, SimpleNamespace(gpu=False, artifacts=tmp_path))
    scores = final_scoring.collect_scores(driver, records, scoring)
    assert sizes == [4, 4, 1]
    assert scores == {f"t-{i}": {"test_knn": float(i)} for i in range(9)}


@pytest.mark.parametrize("dies", [False, True])
def test_a_run_that_cannot_be_scored_has_no_test_score_and_costs_no_other(tmp_path, monkeypatch, dies):
    """One by itself, or a whole task with its process."""

    def get(result):
        if dies and len(result) == 1:
            raise ray.exceptions.WorkerCrashedError
        return result

    def remote(runs, **options):
        return ["out of memory" if place.endswith("t-1") else {"test_knn": 0.5} for _, place in runs]

    said = []
    monkeypatch.setattr(final_scoring.ray, "remote", lambda **options: lambda function: SimpleNamespace(remote=remote))
    monkeypatch.setattr(final_scoring.ray, "get", get)
    monkeypatch.setattr(final_scoring, "log_scores", lambda *args: None)
    progress = SimpleNamespace(note=said.append)
    driver = SimpleNamespace(trial_directory=lambda key: tmp_path / key, tracker=None, progress=progress)
    records = [TrialRecord(f"t-{i}", {}, dump(settings()), {1: {"val_knn": 0.4}}) for i in range(5)]
    for record in records:
        trial(tmp_path / record.key)
    scoring = final_scoring.start_scoring(driver, records, SimpleNamespace(gpu=False, artifacts=tmp_path))
    scores = final_scoring.collect_scores(driver, records, scoring)
    lost = {"t-1", "t-4"} if dies else {"t-1"}
    for key, values in scores.items():
        assert values == {"val_knn": 0.4} | ({} if key in lost else {"test_knn": 0.5})
        assert (read_scores(tmp_path / key) is None) == (key in lost), "a resumed sweep tries again"
    assert [line.partition(" has")[0] for line in said] == [f"warning: {key}" for key in sorted(lost)]


def test_mlflow_hears_of_scores_at_their_epoch(tmp_path):
    from raydistill.tracking.sync import log_scores

    told = []
    tracker = SimpleNamespace(
        score=lambda key, epoch, values, new, when: told.append((epoch, values)), artifact=lambda *args: None
    )
    trial(tmp_path)
    record = TrialRecord("t0000", {}, {}, results={1: {}, 2: {}})
    write_scores(tmp_path, Scores(TESTED, identity(newest(tmp_path))))
    log_scores(tracker, record, tmp_path)
    (tmp_path / SCORES_FILE).write_text(json.dumps(TESTED))
    log_scores(tracker, record, tmp_path)
    (tmp_path / SCORES_FILE).write_text("{")
    log_scores(tracker, record, tmp_path)
    assert told == [(1, TESTED), (2, TESTED)]

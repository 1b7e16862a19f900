"""Runs out of MLflow and models into it: images in, embeddings out, nothing unpickled."""

import base64
import json
import pickle

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.builders.datafiles import png
from helpers.builders.runs import settings, sweep, trial
from helpers.builders.states import as_of_0_1

from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.export.encoders import choose, embed_plain, sample
from raydistill.export.resolve import resolve_run
from raydistill.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The sweeps' folder, MLflow's address, and the ids of the sweep's run and of its trials'."""
    home = tmp_path_factory.mktemp("tracked")
    folder = sweep(home)
    uri = f"sqlite:///{home / 'mlflow.db'}"
    tracker = Tracker(uri, "raydistill", "demo-1", params={}, system_metrics=False)
    for key in ("t0000", "t0001"):
        tracker.start_trial(key, {}, {"raydistill.role": "search"})
        tracker.artifact(key, folder / "trials" / key / "config.yaml")
        tracker.log(key, 1, {"val_knn": 0.5, "test_knn": 0.25})
        tracker.end_trial(key, "finished")
    for part in ("epoch-00001.safetensors", "epoch-00001.json"):
        tracker.artifact("t0001", folder / "trials" / "t0001" / part, "checkpoint")
    tracker.tag_parent({"raydistill.winner": "t0001"})
    assert tracker.close("finished") == 0
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([tracker.experiment_id], "tags.`raydistill.trial` != ''")
    return home, uri, tracker.parent_id, {run.data.tags["raydistill.trial"]: run.info.run_id for run in found}


def test_a_sweeps_run_means_its_winner_and_a_trials_run_itself(tracked):
    home, uri, parent, trials = tracked
    for given, name in ((parent, "demo-1"), (trials["t0001"], "demo-1-t0001")):
        found = resolve_run(f"mlflow:{given}", home, uri)
        assert (found.name, found.run, found.epoch, found.outcome) == (name, "demo-1/t0001", 1, "finished")
        assert found.scores == {"val_knn": 0.5, "test_knn": 0.25}
        local = resolve_run("demo-1", home, uri)
        assert found.config == local.config
        assert all(torch.equal(found.state["method"][key], value) for key, value in local.state["method"].items())


def test_a_run_of_version_0_1_has_its_checkpoint_in_one_file(tracked, tmp_path):
    home, uri, _, _ = tracked
    tracker = Tracker(uri, "raydistill", "old-1", params={}, system_metrics=False)
    tracker.start_trial("t0001", {}, {"raydistill.role": "search"})
    trial = home / "demo-1" / "trials" / "t0001"
    tracker.artifact("t0001", trial / "config.yaml")
    (state,) = trial.glob("epoch-*.safetensors")
    tracker.artifact("t0001", as_of_0_1(state, tmp_path), "checkpoint")
    assert tracker.close("finished") == 0
    (run,) = mlflow.MlflowClient(uri).search_runs(
        [tracker.experiment_id], "tags.`raydistill.sweep` = 'old-1' AND tags.`raydistill.trial` = 't0001'"
    )
    found, local = resolve_run(f"mlflow:{run.info.run_id}", home, uri), resolve_run("demo-1", home, uri)
    assert found.epoch == local.epoch == 1
    assert all(torch.equal(found.state["method"][key], value) for key, value in local.state["method"].items())


def test_what_mlflow_does_not_have_is_said(tracked, tmp_path):
    home, uri, _, trials = tracked
    with pytest.raises(ConfigError, match=r"demo-1/t0000\) has no checkpoint in MLflow"):
        resolve_run(f"mlflow:{trials['t0000']}", home, uri)
    with pytest.raises(ConfigError, match="has no run 'nothing'"):
        resolve_run("mlflow:nothing", home, uri)
    with pytest.raises(ConfigError, match=r"elsewhere\.db: there is no such file"):
        resolve_run("mlflow:nothing", home, f"sqlite:///{tmp_path}/elsewhere.db")
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.fixture(scope="module")
def registered(tracked, tmp_path_factory):
    """The folder of an export that the registry has as its first version of `encoders`."""
    home, uri, _, _ = tracked
    out = tmp_path_factory.mktemp("out") / "model"
    command = ["export", "demo-1", "--format", "mlflow", "--storage", str(home), "--tracking-uri", uri]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--out", str(out), "--register", "encoders"])
    assert ended.value.code == 0
    return out


@pytest.fixture
def model(tracked, registered, monkeypatch):
    """What the registry gives, loaded where a pickle may not be."""

    def refuse(*arguments, **options):
        raise AssertionError("something was unpickled")

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(tracked[1])
    with monkeypatch.context() as patched:
        for name in ("load", "loads", "Unpickler"):
            patched.setattr(pickle, name, refuse)
        yield mlflow.pyfunc.load_model("models:/encoders/1")
    mlflow.set_tracking_uri(None)


def test_a_version_has_the_trial_and_its_scores_as_tags(tracked, registered):
    _, uri, _, trials = tracked
    version = mlflow.MlflowClient(uri).get_model_version("encoders", "1")
    assert version.run_id == trials["t0001"]
    assert version.tags["raydistill.sweep"] == "demo-1"
    assert version.tags["raydistill.trial"] == "t0001"
    assert version.tags["test_knn"] == "0.250000"
    assert not list(registered.rglob("*.pkl"))
    assert str(registered.parent.parent) not in (registered / "MLmodel").read_text()


def test_it_takes_images_in_every_shape(tracked, model):
    images = np.stack(sample(resolve_run("demo-1", tracked[0], "").config)[0][:3])
    assert len({image.tobytes() for image in images}) == 3, "of the digits, not noise"
    assert images.shape == (3, 8, 8, 3)
    files = [png(image) for image in images]
    texts = [base64.b64encode(file).decode() for file in files]
    run = resolve_run("demo-1", tracked[0], "")
    expected = embed_plain(choose(run, "student"), list(images), 8).numpy()
    for given in (
        files,
        texts,
        images,
        list(images),
        images.tolist(),
        np.array(texts),
        [files[0], texts[1], images[2]],
        pd.DataFrame({"image": files}),
        pd.DataFrame({"anything": texts}),
    ):
        found = model.predict(given)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    many = model.predict(np.repeat(images, 50, axis=0))
    assert np.abs(many[::50] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_photographs_go_in_as_well(tracked, model, cifar10):
    images = sample(settings(source=str(cifar10)))[0]
    run = resolve_run("demo-1", tracked[0], "")
    expected = embed_plain(choose(run, "student"), images, 8).numpy()
    assert expected.std(0).max() > 1e-2 * np.abs(expected).max(), "they differ"
    found = model.predict([png(image) for image in images])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_its_signature_and_its_example_say_what_it_takes_and_gives(model):
    (output,) = model.metadata.signature.outputs.inputs
    assert (output.type, output.shape) == (np.float32, (-1, 32))
    assert len(model.metadata.signature.inputs.inputs) == 1
    assert model.predict(model.input_example).shape == (1, 32)


def test_what_is_no_image_is_refused(model):
    for given in (["not base64!"], [b"no image"], [np.zeros((4, 4), np.uint8)], [np.zeros((4, 4, 3))]):
        with pytest.raises(Exception, match=r"(?i)base64|identify|accepted: uint8"):
            model.predict(given)


def test_what_has_no_run_in_mlflow_is_not_registered(tracked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trial(tmp_path / "alone")
    sweep(tmp_path / "runs", "unknown-1")
    said = {"alone": "alone is no trial of a sweep", "unknown-1": "has no run of sweep unknown-1"}
    for given, words in said.items():
        with pytest.raises(SystemExit) as ended:
            main(["export", given, "--format", "mlflow", "--register", "x", "--tracking-uri", tracked[1]])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "exports").exists()


def test_a_score_of_another_epoch_than_the_checkpoints_is_left_out(tracked):
    home, uri, _, trials = tracked
    client = mlflow.MlflowClient(uri)
    client.log_metric(trials["t0001"], "test_probe", 0.9, step=2)
    assert resolve_run(f"mlflow:{trials['t0001']}", home, uri).scores == {"val_knn": 0.5, "test_knn": 0.25}


def test_the_run_of_another_sweep_of_that_name_is_left_alone(tmp_path, monkeypatch, capsys):
    """Two people, one MLflow, and both call their sweep demo-1."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    ids = {}
    for person in ("ours", "theirs"):
        (sweep(tmp_path / person) / "origin.json").write_text(json.dumps({"id": person}))
        name = "demo-1" if person == "theirs" else "ours-1"
        tracker = Tracker(uri, "raydistill", name, params={}, tags={"raydistill.id": person}, system_metrics=False)
        tracker.start_trial("t0001", {})
        assert tracker.close("finished") == 0
        ids[person] = tracker.parent_id
    client = mlflow.MlflowClient(uri)

    def export(code, *more):
        command = ["export", "demo-1", "--format", "mlflow", "--storage", "ours", "--tracking-uri", uri, "--overwrite"]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--register", "x", *more])
        assert ended.value.code == code

    export(2)
    assert "holds another sweep called 'demo-1', not this one" in capsys.readouterr().err
    assert not (tmp_path / "exports").exists()
    for run in client.search_runs(["1"], "tags.`raydistill.sweep` = 'ours-1'"):
        client.set_tag(run.info.run_id, "raydistill.sweep", "demo-1")
    export(0)
    version = client.get_model_version("x", "1")
    assert client.get_run(version.run_id).data.tags["mlflow.parentRunId"] == ids["ours"]
    export(0, "--encoder", "student")
    assert client.get_model_version("x", "2").tags["test_knn"] == "0.250000"


def test_a_version_of_another_encoder_does_not_have_the_students_scores(tmp_path):
    method = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 8, "projection_dim": 8}
    folder = sweep(tmp_path / "runs")
    trial(folder / "trials" / "t0001", method)
    scores = {"test_knn": 0.5, "test_knn_peer_2": 0.25}
    (folder / "trials" / "t0001" / "scores.json").write_text(json.dumps(scores))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, "raydistill", "demo-1", params={}, system_metrics=False)
    tracker.start_trial("t0001", {})
    assert tracker.close("finished") == 0
    command = ["export", "demo-1", "--format", "mlflow", "--encoder", "peer_2", "--register", "m"]
    with pytest.raises(SystemExit):
        main([*command, "--storage", f"{tmp_path}/runs", "--tracking-uri", uri, "--out", f"{tmp_path}/out"])
    tags = mlflow.MlflowClient(uri).get_model_version("m", "1").tags
    assert (tags["raydistill.encoder"], tags["test_knn"]) == ("peer_2", "0.250000")
    assert not [name for name in tags if name.startswith("val_")]


def test_a_run_without_its_configuration_is_named(tracked):
    home, uri, _, _ = tracked
    tracker = Tracker(uri, "raydistill", "bare-1", params={}, system_metrics=False)
    tracker.start_trial("t0001", {})
    tracker.artifact("t0001", home / "demo-1" / "trials" / "t0001" / "epoch-00001.safetensors", "checkpoint")
    assert tracker.close("finished") == 0
    (run,) = mlflow.MlflowClient(uri).search_runs(
        [tracker.experiment_id], "tags.`raydistill.sweep` = 'bare-1' AND tags.`raydistill.trial` = 't0001'"
    )
    with pytest.raises(ConfigError, match=rf"mlflow:{run.info.run_id}: its config\.yaml cannot be had"):
        resolve_run(f"mlflow:{run.info.run_id}", home, uri)


def test_the_scores_of_a_trial_of_several_seeds_are_those_of_its_own_network(tracked):
    home, uri, _, trials = tracked
    client = mlflow.MlflowClient(uri)
    for number, value in enumerate((0.75, 0.25)):
        client.log_metric(trials["t0001"], f"seed/{number}/val_knn", value, step=1)
    assert resolve_run(f"mlflow:{trials['t0001']}", home, uri).scores == {"val_knn": 0.75, "test_knn": 0.25}

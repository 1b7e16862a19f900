"""Runs out of MLflow and models into it: images in, embeddings out, nothing unpickled."""

import base64
import pickle

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from datafiles import png
from runs import sweep, trial

from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.export.encoders import choose, embed_plain
from raydistill.export.found import find
from raydistill.sweep.tracking import Tracker


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
    tracker.artifact("t0001", folder / "trials" / "t0001" / "epoch-00001.safetensors", "checkpoint")
    tracker.tag_parent({"raydistill.winner": "t0001"})
    assert tracker.close("finished") == 0
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([tracker.experiment_id], "tags.`raydistill.trial` != ''")
    return home, uri, tracker.parent_id, {run.data.tags["raydistill.trial"]: run.info.run_id for run in found}


def test_a_sweeps_run_means_its_winner_and_a_trials_run_itself(tracked):
    home, uri, parent, trials = tracked
    for given, name in ((parent, "demo-1"), (trials["t0001"], "demo-1-t0001")):
        found = find(f"mlflow:{given}", home, uri)
        assert (found.name, found.run, found.epoch, found.outcome) == (name, "demo-1/t0001", 1, "finished")
        assert found.scores == {"val_knn": 0.5, "test_knn": 0.25}
        local = find("demo-1", home, uri)
        assert found.config == local.config
        assert all(torch.equal(found.state["method"][key], value) for key, value in local.state["method"].items())


def test_what_mlflow_does_not_have_is_said(tracked, tmp_path):
    home, uri, _, trials = tracked
    with pytest.raises(ConfigError, match=r"demo-1/t0000\) has no checkpoint in MLflow"):
        find(f"mlflow:{trials['t0000']}", home, uri)
    with pytest.raises(ConfigError, match="has no run 'nothing'"):
        find("mlflow:nothing", home, uri)
    with pytest.raises(ConfigError, match=r"elsewhere\.db: there is no such file"):
        find("mlflow:nothing", home, f"sqlite:///{tmp_path}/elsewhere.db")
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
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    files = [png(image) for image in images]
    texts = [base64.b64encode(file).decode() for file in files]
    run = find("demo-1", tracked[0], "")
    expected = embed_plain(choose(run, "student"), list(images), 8).numpy()
    for given in (files, texts, images, list(images), images.tolist(), np.array(texts), [files[0], texts[1], images[2]],
                  pd.DataFrame({"image": files}), pd.DataFrame({"anything": texts})):  # fmt: skip
        found = model.predict(given)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    many = model.predict(np.repeat(images, 50, axis=0))
    assert np.abs(many[::50] - expected).max() <= 1e-5 * np.abs(expected).max()


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
    said = {"alone": "alone is no trial of a sweep", "unknown-1": "has no run of unknown-1/t0001"}
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
    assert find(f"mlflow:{trials['t0001']}", home, uri).scores == {"val_knn": 0.5, "test_knn": 0.25}

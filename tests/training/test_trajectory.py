"""Features of every scored epoch, kept beside a run, and one picture of the runs that have any."""

from types import SimpleNamespace

import pytest
import torch
from helpers.builders.runs import DATA, TINY

from raydistill import config
from raydistill.data.sources import load_dataset
from raydistill.evaluation import online
from raydistill.evaluation.online import evaluate
from raydistill.evaluation.tasks.trajectory import similarities
from raydistill.evaluation.trajectory_files import read_features
from raydistill.records.journal import TrialRecord
from raydistill.sweep.final.choice import Choice
from raydistill.sweep.final.trajectories import draw_trajectories
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.single import TrainingError, train
from raydistill.trial_spec import TrialSpec

pytestmark = pytest.mark.slow


def wanted(epochs=3, seed=0, **scores):
    values = {"method": TINY, "data": DATA, "train": {"epochs": epochs, "seed": seed}}
    return config.load(values | {"eval": {"ks": [1], "trajectory": True, **scores}})


def names(folder):
    return sorted(path.name for path in folder.glob("*"))


def test_a_run_keeps_the_features_of_each_scored_epoch_and_goes_on_after_a_stop(tmp_path):
    def stop(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TrialSpec(wanted()), tmp_path, evaluate=evaluate, on_epoch=stop, device="cpu")
    assert names(tmp_path / "trajectory") == ["epoch-00001.npz", "epoch-00002.npz"]
    first = (tmp_path / "trajectory" / "epoch-00001.npz").read_bytes()
    train(TrialSpec(wanted()), tmp_path, evaluate=evaluate, device="cpu")
    assert names(tmp_path / "trajectory") == [f"epoch-0000{epoch}.npz" for epoch in (1, 2, 3)]
    assert (tmp_path / "trajectory" / "epoch-00001.npz").read_bytes() == first
    # The last ones are those of the network in the checkpoint.
    from raydistill import methods
    from raydistill.artifacts.teachers import given_from

    state = latest_checkpoint(tmp_path)
    method = methods.build(wanted().method, given_from(state), seed=0)
    method.load_state_dict(state["method"])
    dataset = load_dataset(wanted().data)
    features, _ = online.embed_split(method.encoders()["student"], dataset, dataset.val, torch.device("cpu"))
    kept = read_features(tmp_path / "trajectory")[-1]
    assert kept.shape == features.shape
    torch.testing.assert_close(similarities(kept), similarities(features), rtol=0, atol=2e-3)


def test_epochs_without_scores_and_runs_without_the_setting_keep_nothing(tmp_path):
    train(TrialSpec(wanted(every=2)), tmp_path / "two", evaluate=evaluate, device="cpu")
    assert names(tmp_path / "two" / "trajectory") == ["epoch-00002.npz", "epoch-00003.npz"]  # the last is scored, too
    train(TrialSpec(wanted(1, trajectory=False)), tmp_path / "none", evaluate=evaluate, device="cpu")
    assert not (tmp_path / "none" / "trajectory").exists()


def test_features_that_cannot_be_written_end_the_run(tmp_path):
    (tmp_path / "trajectory").write_text("in the way")
    with pytest.raises(TrainingError):
        train(TrialSpec(wanted(1)), tmp_path, evaluate=evaluate, device="cpu")


def test_one_picture_of_all_final_runs(tmp_path):
    runs, notes = {}, []
    for name, seed in (("b", 0), ("a", 0), ("a", 1)):
        setting = wanted(2, seed)
        key = f"final-{name}-seed{seed}"
        train(TrialSpec(setting), tmp_path / key, evaluate=evaluate, device="cpu")
        runs[name, seed] = TrialRecord(key, {}, config.dump(setting), outcome="finished")
    settings = SimpleNamespace(arms=[SimpleNamespace(name=name) for name in "ab"], directory=tmp_path)
    driver = SimpleNamespace(trial_directory=tmp_path.joinpath, progress=SimpleNamespace(note=notes.append))
    draw_trajectories(settings, driver, Choice([], [], runs))
    assert (tmp_path / "trajectories.png").read_bytes().startswith(b"\x89PNG")
    assert notes == [f"trajectories of 3 runs, 6 checkpoints in all: {tmp_path / 'trajectories.png'}"]
    # One run of two checkpoints is too little for a picture; the sweep goes on.
    notes.clear()
    draw_trajectories(settings, driver, Choice([], [], {("b", 0): runs["b", 0]}))
    assert notes[0].startswith("warning: the trajectories are not drawn: checkpoints: 2 points")

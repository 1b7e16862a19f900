"""`raydistill train RUN` where a trial had a frozen teacher, its bank or pseudo labels, or lies in MLflow."""

import mlflow
import pytest
import yaml
from helpers.builders.states import same, weights
from helpers.requests import decided, request
from helpers.rows import ROWS

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.cli import main
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.planning.prepare import ensure_teachers
from raydistill.records.journal import Journal
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import newest
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 60, "image_size": 8, "batch_size": 16}
FIXED = {**DATA, "fixed_views": 2}
TEACHER = {"backbone": "resnet10_w4", "epochs": 1, "batch_size": 16}
TRIALS = {"live": ("seed", DATA), "bank": ("seed", FIXED), "labels": ("sssd", DATA)}


def settings(name, data, epochs=2):
    method = {"name": name, **ROWS[name]}
    values = {"method": method, "data": data, "teacher": TEACHER, "train": {"epochs": epochs, "lr": 0.01}}
    return config.dump(config.load(values))


def no_evaluation(*_):
    return {}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a sweep of three trials that joined their packs an epoch late, and what they learnt from."""
    here = tmp_path_factory.mktemp("again")
    store = Store(here / "artifacts")
    ensure_teachers(TrialSpec(config.load(settings("seed", DATA))), store, here / "scratch", evaluate=no_evaluation)
    journal = Journal(here / "runs" / "demo-1" / "journal.jsonl")
    for data in (DATA, FIXED):
        pack = Pack(load_dataset(DataConfig(**data)), DataConfig(**data), evaluate=no_evaluation, store=store)
        pack.add(request("neighbour", settings("simclr", data, 3)))
        pack.run_epoch()
        for key in (key for key, (_, wanted) in TRIALS.items() if wanted is data):
            folder, values = here / "runs" / "demo-1" / "trials" / key, settings(TRIALS[key][0], data)
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(yaml.safe_dump(values))
            journal.propose(key, {}, decided(values))
            assert pack.add(request(key, values, str(folder))) is None
        while pack.learners:
            assert not [report.error for report in pack.run_epoch() if report.error]
    journal.close()
    return here


def again(here, given, out, *flags):
    """What `raydistill train` makes of a run."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(here)
        main(["train", given, "--out", str(out), *flags])
    assert ended.value.code == 0
    return weights(out)


@pytest.mark.parametrize("key", TRIALS)
def test_it_is_the_trial_bit_for_bit(here, tmp_path, key):
    trial = here / "runs" / "demo-1" / "trials" / key
    assert latest_checkpoint(trial)["offsets"] == [[0, 1]]
    assert same(again(here, f"demo-1/{key}", tmp_path / "out"), weights(trial))


@pytest.mark.parametrize("key", ["live", "labels"])
def test_it_is_so_with_a_teacher_trained_anew(here, tmp_path, capsys, key):
    made = again(here, f"demo-1/{key}", tmp_path / "out", "--artifacts", str(tmp_path / "artifacts"))
    assert "teacher epoch 1" in capsys.readouterr().out
    assert same(made, weights(here / "runs" / "demo-1" / "trials" / key))


def test_it_is_so_for_a_run_in_mlflow_whose_folder_is_gone(here, tmp_path):
    folder = here / "runs" / "demo-1" / "trials" / "live"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker(uri, "raydistill", "demo-1", params={}, system_metrics=False)
    tracker.start_trial("live", {}, {"raydistill.role": "search"})
    tracker.artifact("live", folder / "config.yaml")
    for part in (newest(folder), newest(folder).with_suffix(".json")):
        tracker.artifact("live", part, "checkpoint")
    tracker.end_trial("live", "finished")
    assert tracker.close("finished") == 0
    (run,) = mlflow.MlflowClient(uri).search_runs([tracker.experiment_id], "tags.`raydistill.trial` = 'live'")
    flags = ["--tracking-uri", uri, "--storage", str(tmp_path / "none")]
    assert same(again(here, f"mlflow:{run.info.run_id}", tmp_path / "out", *flags), weights(folder))

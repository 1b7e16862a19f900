"""The thin trial, without a cluster: when it speaks to the broker."""

import json
from types import SimpleNamespace

import pytest

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.sweep.tune_callback import TuneCallback
from raydistill.sweep.workers import trainable as module
from raydistill.sweep.workers.trainable import SweepTrainable, last_copy
from raydistill.training.checkpoint_files import finished
from raydistill.training.checkpoints import latest_checkpoint, write_checkpoint
from raydistill.training.messages import EpochResult
from raydistill.trial_spec import TrialSpec

SPEC = TrialSpec(config.load({"method": "simclr", "train": {"lr": 0.1}}))


class Calls:
    """Stands for the broker's actor: notes what is called, answers `next` with a report."""

    def __init__(self, report):
        self.report, self.made = report, []

    def __getattr__(self, name):
        def remote(*arguments):
            self.made.append((name, *arguments))
            return self.report if name == "next" else None

        return SimpleNamespace(remote=remote)


@pytest.fixture
def broker(monkeypatch):
    broker = Calls(EpochResult("t0001", 3, {"loss": 1.0}))
    monkeypatch.setattr(module.ray, "get_actor", lambda name: broker)
    monkeypatch.setattr(module.ray, "get", lambda value: value)
    return broker


def settings(folder, **values):
    return {
        "key": "t0001",
        "spec": SPEC,
        "settings": {},
        "directory": str(folder),
        "last_delivered_epoch": 2,
        "broker": "b",
        "carry": False,
        "seeds": 1,
        **values,
    }


def made(folder, **values):
    trial = SweepTrainable.__new__(SweepTrainable)
    trial.setup(settings(folder, **values))
    return trial


def test_it_joins_with_its_first_step_since_tune_may_prepare_an_actor_that_it_never_steps(broker, tmp_path):
    trial = made(tmp_path)
    trial.reset_config(settings(tmp_path))
    assert broker.made == []
    assert trial.step()["epoch"] == 3
    trial.step()
    assert [name for name, *_ in broker.made] == ["join", "next", "next"]
    assert broker.made[0][1].last_delivered_epoch == 2


def test_the_driver_hears_which_epochs_of_the_stream_it_saw(broker, tmp_path):
    broker.report = EpochResult("t0001", 3, {"loss": 1.0}, offsets=((0, 2),))
    result = made(tmp_path).step() | {"time_total_s": 1.0}
    journal = Journal(tmp_path / "journal.jsonl")
    journal.propose("t0001", {}, SPEC)
    spent = []
    told = SimpleNamespace(trained=spent.append, log=lambda *_: None, result=lambda *_: None)
    driver = SimpleNamespace(journal=journal, budget=told, tracker=told, progress=told)
    callback = TuneCallback(driver, SimpleNamespace(metric="val_knn", role="search", seeds=3), None)
    callback.on_trial_result(1, [], SimpleNamespace(config={"key": "t0001"}), result)
    assert journal.trials["t0001"].offsets == ((0, 2),)
    assert journal.trials["t0001"].results == {3: {"loss": 1.0}}
    assert spent == [3], "an epoch of each seed counts"


def test_it_joins_with_all_its_seeds(broker, tmp_path):
    made(tmp_path, seeds=3).step()
    assert broker.made[0][1].seeds == 3


def test_a_populations_settings_go_over_the_configuration(broker, tmp_path):
    made(tmp_path, settings={"train.lr": 0.5}).step()
    assert broker.made[0][1].spec == SPEC.assign({"train.lr": 0.5})
    assert broker.made[0][1].spec.config.train.lr == 0.5


def test_a_copy_takes_the_donors_weights_and_says_so_once(broker, tmp_path):
    write_checkpoint(tmp_path / "donor", 3, {"who": "donor"})
    write_checkpoint(tmp_path / "own", 4, {"who": "own"})
    carried = tmp_path / "carried"
    carried.mkdir()
    donor = made(tmp_path / "donor", key="t0007", carry=True, last_delivered_epoch=3)
    donor.save_checkpoint(str(carried))
    # Tune may save the donor once more into the same folder.
    write_checkpoint(tmp_path / "donor", 4, {"who": "donor, later"})
    donor.epoch = 4
    donor.save_checkpoint(str(carried))
    trial = made(tmp_path / "own", settings={"train.lr": 0.2}, as_of=3)
    trial.load_checkpoint(str(carried))
    assert latest_checkpoint(tmp_path / "own") == {"who": "donor"}
    assert len(finished(tmp_path / "own")) == 1
    assert last_copy(tmp_path / "own") == (3, "t0007", {"train.lr": 0.2})
    assert last_copy(tmp_path / "donor") is None
    assert trial.epoch == 3
    assert trial.step()["copied_from"] == "t0007@3"
    assert trial.step()["copied_from"] == ""
    assert broker.made[0][1].last_delivered_epoch == 3


def test_its_own_checkpoint_is_a_pointer_and_changes_no_file(broker, tmp_path):
    write_checkpoint(tmp_path / "own", 3, {"who": "own"})
    folder = tmp_path / "tune"
    folder.mkdir()
    trial = made(tmp_path / "own", last_delivered_epoch=3)
    trial.save_checkpoint(str(folder))
    assert [path.name for path in folder.iterdir()] == ["trial.json"]
    assert json.loads((folder / "trial.json").read_text()) == {"key": "t0001", "epoch": 3}
    trial.load_checkpoint(str(folder))
    assert latest_checkpoint(tmp_path / "own") == {"who": "own"}
    assert trial.step()["copied_from"] == ""


def test_a_copy_that_was_cut_short_before_its_weights_came_is_none(broker, tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "donor", 3, {"who": "donor"})
    write_checkpoint(tmp_path / "own", 3, {"who": "own"})
    carried = tmp_path / "carried"
    carried.mkdir()
    made(tmp_path / "donor", key="t0007", carry=True, last_delivered_epoch=3).save_checkpoint(str(carried))
    monkeypatch.setattr(module, "adopt", lambda *_: None)
    made(tmp_path / "own", as_of=3).load_checkpoint(str(carried))
    assert last_copy(tmp_path / "own") is None

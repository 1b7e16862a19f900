"""`raydistill train RUN`: a trial of a sweep, and its export, give the same weights again, bit for bit."""

import pytest
import torch
import yaml
from helpers.builders.runs import DATA, TINY, journal, trial
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.cli import main, train
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.export.resolve import resolve_run
from raydistill.records.journal import Journal
from raydistill.training.checkpoints import latest_checkpoint, write_checkpoint
from raydistill.training.pack import Pack


def command(*arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == code


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A sweep whose winner joined a pack two epochs after its neighbour; the current folder is above it."""
    monkeypatch.chdir(tmp_path)
    pack = Pack(load_dataset(DataConfig(**DATA)), DataConfig(**DATA), evaluate=lambda *_: {})
    for key, epochs in (("t0000", 4), ("t0001", 2)):
        values = {"method": TINY, "data": DATA, "train": {"epochs": epochs, "lr": 0.01, "seed": epochs}}
        folder = tmp_path / "runs" / "late-1" / "trials" / key
        folder.mkdir(parents=True)
        plain = config.dump(config.load(values))
        (folder / "config.yaml").write_text(yaml.safe_dump(plain))
        pack.add(request(key, plain, str(folder)))
        pack.run_epoch()
        pack.run_epoch()
    while pack.learners:
        pack.run_epoch()
    journal(tmp_path / "runs" / "late-1", t0000="finished", t0001="finished")
    (tmp_path / "runs" / "late-1" / "winner").symlink_to("trials/t0001")
    return tmp_path / "runs"


def test_a_late_trial_is_trained_again_bit_for_bit_from_every_name_and_from_its_export(home, capsys):
    command("export", "late-1", "--format", "safetensors", "--out", "taken")
    known = weights(home / "late-1" / "trials" / "t0001")
    for number, given in enumerate(["late-1", "late-1/t0001", "runs/late-1/trials/t0001", "taken"]):
        command("train", given, "--out", f"again-{number}")
        assert same(weights(home.parent / f"again-{number}"), known), given
    command("train", "runs/late-1/trials/t0001/config.yaml", "--out", "elsewhere")
    assert not same(weights(home.parent / "elsewhere"), known), "without the epochs that it saw"


def test_a_trial_whose_checkpoint_was_removed_is_trained_again_out_of_the_journal(home, capsys):
    folder = home / "late-1" / "trials" / "t0001"
    known = weights(folder)
    for file in folder.glob("epoch-*"):
        file.unlink()
    book = Journal(home / "late-1" / "journal.jsonl")
    for epoch, workers in ((1, 2.0), (2, 1.0)):
        book.result("t0001", epoch, {"loss": 1.0, "threads": 1.0, "workers": workers}, ((0, 2),))
    book.close()
    command("train", "late-1", "--out", "again")
    assert same(weights(home.parent / "again"), known)
    assert "late-1/t0001 was trained by 2 workers" in capsys.readouterr().err
    command("embed", "late-1", "digits", code=2)
    assert "its checkpoint was removed" in capsys.readouterr().err


def test_what_was_trained_again_is_a_run_itself(home):
    command("train", "late-1", "--out", "again")
    found = resolve_run("again", home, "")
    assert found.config == resolve_run("late-1", home, "").config
    command("export", "again", "--format", "safetensors")
    assert (home.parent / "exports" / "again-safetensors" / "encoder.safetensors").exists()


def test_a_folder_keeps_to_its_run_but_may_train_it_longer(home, capsys):
    command("train", "late-1", "--set", "train.epochs=1", "--out", "again")
    command("train", "late-1", "--set", "train.epochs=2", "--out", "again")
    command("train", "late-1", "--set", "train.lr=0.5", "--out", "again", code=2)
    assert "--out again: holds a run of other settings" in capsys.readouterr().err
    assert resolve_run("again", home, "").config.train.lr == 0.01


@pytest.mark.parametrize(
    ("method", "train", "depends"),
    [
        (TINY, {"schedule": "cosine"}, "its learning rate (train.schedule = 'cosine')"),
        ({**TINY, "name": "byol"}, {}, "a schedule of byol"),
    ],
)
def test_another_length_is_another_run_where_a_schedule_depends_on_it(home, tmp_path, capsys, method, train, depends):
    values = {"method": method, "data": DATA, "train": {"epochs": 1, **train}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values))
    command("train", "s.yaml", "--out", "again")
    command("train", "s.yaml", "--set", "train.epochs=2", "--out", "again", code=2)
    said = capsys.readouterr().err
    assert f"train.epochs = 2: again holds a run of 1 epochs, on which {depends} depends" in said
    assert "choose another folder" in said
    assert resolve_run("again", home, "").config.train.epochs == 1
    for file in (tmp_path / "again").glob("epoch-*"):
        file.unlink()
    command("train", "s.yaml", "--set", "train.epochs=2", "--out", "again")


def test_a_shorter_training_leaves_the_longer_one_as_it_is_and_says_that_it_is_done(home, capsys):
    command("train", "late-1", "--out", "again")
    capsys.readouterr()
    command("train", "late-1", "--set", "train.epochs=1", "--out", "again")
    assert capsys.readouterr().out.startswith("again is trained already: epoch 2  loss ")
    assert resolve_run("again", home, "").config.train.epochs == 2


@pytest.mark.parametrize("out", ["runs/late-1", "runs/late-1/trials/t0001", "runs/late-1/winner", "runs/late-1/new"])
def test_a_sweeps_own_folder_is_no_place_for_another_training(home, capsys, out):
    command("train", "late-1", "--set", "train.epochs=3", "--out", out, code=2)
    assert f"--out {out}: lies in the folder of sweep late-1" in capsys.readouterr().err
    assert resolve_run("late-1", home, "").config.train.epochs == 2
    assert not (home / "late-1" / "new").exists()


def test_a_teachers_length_stays_what_it_was_when_its_student_trains_on(home, tmp_path, capsys):
    values = {
        "method": {"name": "regress", "backbone": "resnet10_w4"},
        "data": DATA,
        "train": {"epochs": 1},
        "teacher": {"backbone": "resnet10_w4"},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values))
    command("train", "s.yaml", "--out", "o")
    assert "teacher epoch 1" in capsys.readouterr().out
    assert list((tmp_path / "artifacts" / ".training").iterdir()) == [], "its checkpoints are of no more use"
    assert resolve_run("o", home, "").config.teacher.epochs == 1
    command("train", "s.yaml", "--set", "train.epochs=2", "--out", "o")
    assert "teacher" not in capsys.readouterr().out
    assert resolve_run("o", home, "").config.teacher.epochs == 1
    command("train", "s.yaml", "--set", "teacher.epochs=2", "--out", "o", code=2)
    said = capsys.readouterr()
    assert "--out o: holds a run of other settings" in said.err
    assert "teacher" not in said.out, "it is said before a teacher is trained"


class TestWhatTrainedIt:
    """Kept beside the weights, and taken again unless told otherwise."""

    @pytest.fixture(autouse=True)
    def threads(self):
        before = torch.get_num_threads()
        yield
        torch.set_num_threads(before)

    def trained(self, folder):
        state = latest_checkpoint(folder)
        return state["device"], state["metrics"]["threads"], state["workers"]

    def test_threads_are_the_sweeps_unless_given(self, home):
        torch.set_num_threads(2)
        pack = Pack(load_dataset(DataConfig(**DATA)), DataConfig(**DATA), evaluate=lambda *_: {})
        folder = home / "late-1" / "trials" / "t0001"
        for file in folder.glob("epoch-*"):
            file.unlink()
        pack.add(request("t0001", config.read(folder / "config.yaml"), str(folder)))
        pack.run_epoch(), pack.run_epoch()
        torch.set_num_threads(1)
        command("train", "late-1", "--device", "cpu", "--out", "again")
        assert self.trained(home.parent / "again") == ("cpu", 2, 1)
        command("train", "late-1", "--device", "cpu", "--threads", "3", "--out", "told")
        assert self.trained(home.parent / "told") == ("cpu", 3, 1)

    @pytest.mark.parametrize(
        ("trained_on", "flag", "there", "wanted", "said"),
        [
            ("cpu", None, True, "cpu", ""),
            ("cuda", None, True, "cuda", ""),
            ("cuda", None, False, None, "was trained on a GPU and there is none here"),
            ("cuda", "cpu", False, "cpu", ""),
            ("cpu", "cuda:1", True, "cuda:1", ""),
            ("", None, True, None, ""),
        ],
    )
    def test_the_kind_of_device_is_the_runs_where_there_is_one(
        self, monkeypatch, capsys, trained_on, flag, there, wanted, said
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        monkeypatch.setattr(train, "device_of", lambda given: given)
        assert train._where(train._Asked({}, trained_on), flag) == wanted
        assert said in capsys.readouterr().err

    def test_a_run_tells_the_kind_of_device(self, home):
        self.change(home, device="cuda")
        assert train._asked("late-1", None, None).device == "cuda"

    def test_a_device_that_is_not_there_is_refused(self, home, capsys):
        command("train", "late-1", "--device", "gpu", code=2)
        assert "--device gpu cannot be used" in capsys.readouterr().err

    def test_that_several_workers_cannot_be_repeated_by_one_is_said(self, home, capsys):
        self.change(home, workers=2)
        command("train", "late-1", "--set", "train.epochs=1")
        assert "late-1/t0001 was trained by 2 workers: one will not give" in capsys.readouterr().err

    def change(self, home, **values):
        folder = home / "late-1" / "trials" / "t0001"
        write_checkpoint(folder, 2, latest_checkpoint(folder) | values)


def test_settings_still_change_what_is_trained(home, capsys):
    command("train", "late-1", "--set", "train.epochs=1")
    assert "epoch 1/1" in capsys.readouterr().out


def test_a_trial_that_copied_others_is_said_not_to_give_the_same_numbers(home, capsys):
    book = Journal(home / "late-1" / "journal.jsonl")
    book.copy("t0001", 1, "t0000", {}, book.trials["t0001"].spec)
    book.close()
    command("train", "late-1", "--set", "train.epochs=1")
    assert "late-1/t0001 copied t0000 at epoch 1: alone it will not give" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("late-2", "there is no run 'late-2'"),
        ("gone.yaml", "gone.yaml: No such file"),
        ("text.yaml", "text.yaml: expected a mapping of sections, got str"),
        ("empty.yaml", "empty.yaml: expected a mapping of sections, got NoneType"),
        ("empty", "empty/config.yaml: expected a mapping of sections, got NoneType"),
        ("listed", "listed/config.yaml: expected a mapping of sections, got list"),
        ("late-1/t0007", "sweep late-1 has no trial 't0007'"),
        ("unfinished/", "unfinished has no checkpoint"),
    ],
)
def test_what_cannot_be_trained_is_said(home, tmp_path, capsys, given, said):
    (tmp_path / "text.yaml").write_text("text")
    (tmp_path / "empty.yaml").touch()
    for name, content in (("empty", ""), ("listed", "[1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(content)
    trial(tmp_path / "unfinished")
    for file in (tmp_path / "unfinished").glob("epoch-*"):
        file.unlink()
    command("train", given, code=2)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1

"""`raydistill train RUN`: a trial of a sweep, and its export, give the same weights again, bit for bit."""

import pytest
import yaml
from runs import DATA, TINY, journal, trial
from states import same, weights

from raydistill import config
from raydistill.cli import main
from raydistill.config import Data
from raydistill.data.sources import load_dataset
from raydistill.export.found import find
from raydistill.sweep.journal import Journal
from raydistill.training.messages import Assignment
from raydistill.training.pack import Pack


def command(*arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == code


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A sweep whose winner joined a pack two epochs after its neighbour; the current folder is above it."""
    monkeypatch.chdir(tmp_path)
    pack = Pack(load_dataset(Data(**DATA)), Data(**DATA), evaluate=lambda *_: {})
    for key, epochs in (("t0000", 4), ("t0001", 2)):
        values = {"method": TINY, "data": DATA, "train": {"epochs": epochs, "lr": 0.01, "seed": epochs}}
        folder = tmp_path / "runs" / "late-1" / "trials" / key
        folder.mkdir(parents=True)
        plain = config.dump(config.load(values))
        (folder / "config.yaml").write_text(yaml.safe_dump(plain))
        pack.add(Assignment(key, plain, str(folder)))
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


def test_what_was_trained_again_is_a_run_itself(home):
    command("train", "late-1", "--out", "again")
    found = find("again", home, "")
    assert found.config == find("late-1", home, "").config
    command("export", "again", "--format", "safetensors")
    assert (home.parent / "exports" / "again-safetensors" / "encoder.safetensors").exists()


def test_a_folder_keeps_to_its_run_but_may_train_it_longer(home, capsys):
    command("train", "late-1", "--set", "train.epochs=1", "--out", "again")
    command("train", "late-1", "--set", "train.epochs=2", "--out", "again")
    command("train", "late-1", "--set", "train.lr=0.5", "--out", "again", code=2)
    assert "--out again: holds a run of other settings" in capsys.readouterr().err
    assert find("again", home, "").config.train.lr == 0.01


def test_settings_still_change_what_is_trained(home, capsys):
    command("train", "late-1", "--set", "train.epochs=1")
    assert "epoch 1/1" in capsys.readouterr().out


def test_a_trial_that_copied_others_is_said_not_to_give_the_same_numbers(home, capsys):
    book = Journal(home / "late-1" / "journal.jsonl")
    book.copy("t0001", 1, "t0000", {}, book.trials["t0001"].config)
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

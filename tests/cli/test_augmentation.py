"""`--kind` and the settings `augment.*` on the command line."""

from functools import partial

import pytest
import yaml
from helpers import commands
from helpers.builders.runs import DATA, TINY
from helpers.builders.states import same, weights
from helpers.commands import refused

from raydistill.cli import main
from raydistill.export.resolve import resolve_run

SMALL = ["--set", "data.limit=40", "--set", "data.batch_size=16", "--set", "data.image_size=8"]
sweep = partial(commands.run, program="sweep.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 0


def written(folder, name, **values):
    (folder / name).write_text(yaml.safe_dump({"data": DATA, "train": {"epochs": 1, "lr": 0.01}, **values}))
    return name


def test_a_sweep_takes_a_kind_and_settings_and_refuses_what_contradicts_them(tmp_path):
    chosen = ["--set", "augment.rotation=10", "--dry-run"]
    done = sweep("--method", "dogo", *SMALL, "--kind", "grey", *chosen, cwd=tmp_path)
    plan = yaml.safe_load(done.stdout)
    assert plan["configuration"]["data"]["kind"] == "grey"
    assert plan["configuration"]["augment"]["rotation"] == 10
    wrong = sweep("--method", "dogo", *SMALL, "--kind", "aerial", "--set", "augment.mirror=0.1", cwd=tmp_path)
    refused(wrong, "augment: mirror has no effect beside data.kind=aerial")
    refused(sweep("--method", "dogo", *SMALL, "--kind", "areal", cwd=tmp_path), "data.kind = 'areal'", "'aerial'")


def test_train_takes_a_kind_which_is_stored_and_trained_again(here):
    train(written(here, "s.yaml", method=TINY), "--kind", "aerial", "--out", "turned")
    train("s.yaml", "--set", "data.kind=aerial", "--out", "set")
    train("s.yaml", "--out", "plain")
    assert resolve_run("turned", here, "").config.data.kind == "aerial"
    assert same(weights(here / "turned"), weights(here / "set"))
    assert not same(weights(here / "turned"), weights(here / "plain"))


def test_a_run_with_settings_is_trained_again_bit_for_bit_with_its_teacher(here, capsys):
    values = {"method": {"name": "regress", "backbone": "resnet10_w4"}, "teacher": {"backbone": "resnet10_w4"}}
    train(written(here, "s.yaml", **values, augment={"rotation": 15, "min_crop": 0.7}), "--out", "first")
    assert "teacher epoch 1" in capsys.readouterr().out
    config = resolve_run("first", here, "").config
    assert config.teacher.augment == config.augment
    train("first", "--out", "again")
    train("s.yaml", "--set", "train.epochs=2", "--out", "again")
    assert "teacher epoch" not in capsys.readouterr().out
    train("first", "--out", "once-more")
    assert same(weights(here / "once-more"), weights(here / "first"))
    train("s.yaml", "--set", "augment.rotation=20", "--out", "other")
    assert "teacher epoch 1" in capsys.readouterr().out, "another augmentation makes another teacher"

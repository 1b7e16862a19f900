"""An export of `--format safetensors` teaches, as its run would."""

import json
from pathlib import Path

import pytest
import torch
from helpers.builders.runs import settings, sweep, trial

from raydistill import config
from raydistill.artifacts import teachers
from raydistill.artifacts.sources import words_for
from raydistill.artifacts.store import Store
from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.data.views.augment import normalization
from raydistill.export import load
from raydistill.export.formats import open_format
from raydistill.export.resolve import resolve_run
from raydistill.export.write import export
from raydistill.methods import MethodContext
from raydistill.planning.prepare import locate

STORED = Path(__file__).parents[1] / "stored" / "v0.1.0"
SEED = [
    "method.backbone=resnet10_w4",
    "method.queue_size=16",
    "data.limit=40",
    "data.batch_size=16",
    "data.image_size=8",
]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The folder of an export, which is not beside its sweep any more."""
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "runs")
    export(resolve_run("demo-1", tmp_path / "runs", ""), open_format("safetensors"), tmp_path / "out")
    (tmp_path / "runs").rename(tmp_path / "gone")
    return tmp_path / "out"


def test_it_gives_the_features_of_the_export_and_is_known_by_its_weights(exported, tmp_path):
    store = Store(tmp_path / "artifacts")
    key = locate(store, str(exported), config.TeacherConfig(), 8)
    assert locate(store, str(exported), config.TeacherConfig(), 8) == key
    shown = normalization("", 8)
    teacher = teachers.load(store, key.removeprefix("artifact:"), shown, torch.device("cpu"))
    images = torch.randn(5, 3, 8, 8)
    # A teacher is channels last, and processors sum a convolution's terms in another order then.
    encoder = load(exported).to(memory_format=torch.channels_last)
    assert torch.equal(teacher(images, "features"), encoder(images))
    assert teacher.widths == (32, None)
    taught = settings(teacher=[key])
    assert words_for(taught, {}, store.root) == {key: "simclr on resnet10_w4, 1 epochs"}
    trial(tmp_path / "other", {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8})
    export(resolve_run(str(tmp_path / "other"), tmp_path, ""), open_format("safetensors"), tmp_path / "second")
    assert locate(store, str(tmp_path / "second"), config.TeacherConfig(), 8) != key


@pytest.mark.parametrize(
    ("stored", "key"),
    [("exports/dogo-1-safetensors", "1449cc458ddd1688"), ("finished/dogo-1", "57bbe9222b426bcd")],
)
def test_a_run_of_version_0_1_has_the_key_that_it_had(tmp_path, stored, key):
    """So that a sweep that it teaches can be resumed. The keys are those that version 0.1 gave."""
    assert locate(Store(tmp_path), str(STORED / stored), config.TeacherConfig(), 8) == f"artifact:{key}"


def test_a_student_learns_from_it(exported, tmp_path, capsys):
    values = {
        "method": {"name": "seed", "backbone": "resnet10_w4", "queue_size": 16, "teacher": "features"},
        "data": {"limit": 40, "batch_size": 16, "image_size": 8},
        "train": {"epochs": 1},
        "teacher": {"sources": [str(exported)]},
    }
    (tmp_path / "student.yaml").write_text(json.dumps(values))
    with pytest.raises(SystemExit) as ended:
        main(["train", "student.yaml", "--out", "student"])
    assert ended.value.code == 0
    assert "epoch 1/1" in capsys.readouterr().out
    found = resolve_run("student", tmp_path / "runs", "", tmp_path / "artifacts")
    assert list(found.taught.values()) == ["simclr on resnet10_w4, 1 epochs"]


def test_it_has_no_head_and_a_method_that_wants_one_is_told(exported, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "--method", "seed", "--teacher", "out", *(word for each in SEED for word in ("--set", each))])
    assert ended.value.code == 2
    assert "the teacher has no head; set method.teacher=features" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_cannot_teach_is_named(exported, tmp_path):
    store = Store(tmp_path / "artifacts")
    run = resolve_run(str(tmp_path / "gone" / "demo-1"), tmp_path, "")
    export(run, open_format("timm"), tmp_path / "timm")
    with pytest.raises(ConfigError, match=r"timm holds no encoder\.safetensors; of exports, raydistill reads those of"):
        locate(store, str(tmp_path / "timm"), config.TeacherConfig(), 8)
    trial(
        tmp_path / "sssd",
        {"name": "sssd", "backbone": "resnet10_w4", "clusters": 4},
        given=MethodContext(8, 40, (10,) * 4),
    )
    exit_1 = tmp_path / "exit"
    export(resolve_run(str(tmp_path / "sssd"), tmp_path, ""), open_format("safetensors"), exit_1, encoder="exit_1")
    with pytest.raises(ConfigError, match=r"the encoder in .*exit is no plain backbone, and cannot teach"):
        locate(store, str(exit_1), config.TeacherConfig(), 8)
    weights = exported / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="damaged"):
        locate(store, str(exported), config.TeacherConfig(), 8)

"""The command line's teachers, presets and artifacts: what works, and what is refused in a line."""

import json
import pickle
from pathlib import Path

import pytest
import yaml
from helpers.builders.hub_folders import VIT, as_vit, tiny_vit, write
from helpers.builders.runs import sweep, trial
from helpers.commands import launch, refused, run

from raydistill.artifacts.sources import words_for
from raydistill.artifacts.store import Store
from raydistill.cli import main
from raydistill.config import TeacherConfig
from raydistill.planning.prepare import locate
from raydistill.records.locations import teacher_of
from raydistill.sweep import run as sweep_run

TINY = [
    "data.limit=40",
    "data.batch_size=16",
    "data.image_size=8",
    "method.backbone=resnet10_w4",
    "method.queue_size=16",
    "teacher.backbone=resnet10_w4",
]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def test_a_sweep_writes_down_what_its_teachers_were_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial(tmp_path / "taught")
    plans = []
    monkeypatch.setattr(sweep_run, "run_sweep", lambda plan, **_: plans.append(plan) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["sweep", "--method", "seed", *SETTINGS, "--teacher", "taught"])
    origin = sweep_run._origin(plans[0], resume=False)
    (key,) = plans[0].base.teacher.sources
    assert origin["teachers"] == {key: str(tmp_path / "taught")}
    assert words_for(plans[0].base, origin) == {key: "simclr on resnet10_w4, 1 epochs"}
    assert words_for(plans[0].base, origin | {"artifacts": str(tmp_path / "gone")}) == {key: "taught"}


class Touch:
    """Unpickled, it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "papr"], ["preset 'papr'", "did you mean 'paper'"]),
        (["--teacher", "nowhere.pth"], ["teacher.sources", "'nowhere.pth' does not exist", "accepted"]),
        (["--teacher", "artifact:0123"], ["0123", "is not in"]),
        (["--set", "method.queue_size=4000"], ["method.queue_size = 4000", "training images"]),
        (["--set", "teacher.method=dogo"], ["teacher.method = 'dogo'"]),
        (["--set", "teacher.preset=huge"], ["preset 'huge'", "simclr"]),
        (["--set", "teacher.backbone=resnet81"], ["resnet81"]),
    ],
)
def test_what_cannot_be_is_said_before_ray_starts(tmp_path, arguments, said):
    refused(run("sweep", "--method", "seed", *SETTINGS, *arguments, cwd=tmp_path), *said)
    assert not (tmp_path / "runs").exists()


def test_a_teacher_is_named_as_any_run_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = sweep(tmp_path / "runs").resolve()
    home = tmp_path / "runs"
    for given in ("demo-1", "runs/demo-1"):
        assert teacher_of(home, given) == str(folder)
    for given in ("demo-1/t0000", "runs/demo-1/t0000", "runs/demo-1/trials/t0000"):
        assert teacher_of(home, given) == str(folder / "trials" / "t0000")
    for given in ("timm:resnet18", "artifact:0123", "s3://bucket/runs/demo-1", "nowhere.pth"):
        assert teacher_of(home, given) == given


@pytest.mark.parametrize("named", ["link", "file"])
def test_of_a_sweep_its_winner_is_the_teacher(tmp_path, named):
    folder = sweep(tmp_path / "runs")
    if named == "file":  # as copied from an object store
        (folder / "winner").unlink()
        (folder / "winner.txt").write_text("t0001\n")
    store = Store(tmp_path / "artifacts")
    keys = [locate(store, str(path), TeacherConfig(), 8) for path in (folder, folder / "trials" / "t0001")]
    assert keys[0] == keys[1]


def test_a_folder_of_transformers_is_a_teacher(tmp_path):
    preprocessor = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    write(tmp_path / "my-vit", VIT, as_vit(tiny_vit(), "vit."), preprocessor=preprocessor)
    given = ["--teacher", "my-vit", "--set", "method.teacher=features", "--preset", "paper", "--dry-run"]
    done = run("sweep", "--method", "seed", *SETTINGS[:-2], *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mean 0.4, 0.5, 0.6" in done.stdout
    assert "transformers, vit_w96_p4_d2" in run("artifacts", cwd=tmp_path).stdout


@pytest.mark.fault(8)
def test_a_pickle_as_teacher_is_refused_and_nothing_in_it_runs(tmp_path):
    trace = tmp_path / "executed"
    (tmp_path / "teacher.pth").write_bytes(pickle.dumps({"state_dict": Touch(trace)}))
    refused(run("sweep", "--method", "seed", *SETTINGS, "--teacher", "teacher.pth", cwd=tmp_path), "teacher.pth")
    assert not trace.exists()


def test_dry_run_counts_the_teachers_to_train(tmp_path):
    done = run("sweep", "--method", "seed", *SETTINGS, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = yaml.safe_load(done.stdout)
    assert plan["work"]["teachers to train first"] == 1
    assert "teachers of the other seeds" not in plan["work"]
    longer = ["--set", "teacher.epochs_factor=2", "--redraw-teachers", "--seeds", "4"]
    done = run("sweep", "--method", "seed", *SETTINGS, *longer, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    redrawn = yaml.safe_load(done.stdout)
    assert redrawn["work"]["teachers to train first"] == 1
    assert redrawn["work"]["teachers of the other seeds"] == 3
    epochs = plan["work"]["epochs of each"]
    assert redrawn["configuration"]["teacher"]["epochs"] == 2 * epochs
    most = [int(each["estimate"]["trial-epochs"].split(" at most ")[1].split()[0]) for each in (plan, redrawn)]
    runs = redrawn["work"]["final runs at most"] - plan["work"]["final runs at most"]
    assert most[1] - most[0] == runs * epochs + 4 * 2 * epochs - epochs


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("seed", ["--teacher", "timm:resnet18"], ["--redraw-teachers", "given", "--teacher"]),
        ("dogo", [], ["--redraw-teachers", "dogo has neither a frozen teacher nor clusters"]),
        ("supervised_kd", ["--teacher", "timm:resnet18"], ["--redraw-teachers"]),
    ],
)
def test_teachers_that_cannot_be_redrawn_are_refused(tmp_path, method, arguments, said):
    refused(run("sweep", "--method", method, "--redraw-teachers", *arguments, cwd=tmp_path), *said)
    assert not (tmp_path / "runs").exists()


def test_trials_of_open_length_are_refused(tmp_path):
    done = run("sweep", "--method", "simclr", "--set", "train.patience=2", "--dry-run", cwd=tmp_path)
    refused(done, "train.patience = 2", "early_terminate", "teacher.patience")


def test_train_says_when_the_score_has_settled(tmp_path):
    config = {
        "method": {"name": "seed", "backbone": "resnet10_w4", "queue_size": 16},
        "data": {"limit": 40, "batch_size": 16, "image_size": 8},
        "teacher": {"backbone": "resnet10_w4", "epochs": 30, "patience": 1},
        "train": {"epochs": 30, "patience": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = run("train", "config.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for what in ("teacher ", ""):
        (said,) = [line for line in done.stdout.splitlines() if line.startswith(f"{what}training ends after")]
        ended = int(said.removeprefix(f"{what}training ends after ").split()[0])
        assert said.endswith(f"after {ended} of 30 epochs: the score has settled")
        assert max(_epochs(done.stdout, what)) == ended < 30
    (key,) = [line.split()[1] for line in run("artifacts", cwd=tmp_path).stdout.splitlines() if "at most 30" in line]
    shown = json.loads(run("artifacts", "--show", key, cwd=tmp_path).stdout)
    assert shown["trained"]["epochs"] == max(_epochs(done.stdout, "teacher "))
    assert "is trained already" in run("train", "config.yaml", "--out", "out", cwd=tmp_path).stdout


def _epochs(text, what):
    """The epochs that were shown of a training."""
    lines = [line.removeprefix(f"{what}epoch ") for line in text.splitlines() if line.startswith(f"{what}epoch ")]
    return [int(line.split()[0].partition("/")[0]) for line in lines]


def test_a_factor_that_has_no_effect_is_said(tmp_path):
    given = ["--set", "teacher.epochs=3", "--set", "teacher.epochs_factor=2"]
    done = run("sweep", "--method", "seed", *SETTINGS, *given, "--dry-run", cwd=tmp_path)
    assert "teacher.epochs_factor has no effect, since teacher.epochs = 3" in done.stdout


def test_train_makes_the_teacher_once_and_artifacts_shows_it(tmp_path):
    config = {
        "method": {"name": "seed", "backbone": "resnet10_w4", "queue_size": 16},
        "data": {"limit": 40, "batch_size": 16, "image_size": 8, "fixed_views": 1},
        "teacher": {"backbone": "resnet10_w4", "epochs": 1},
        "train": {"epochs": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    first, second = (run("train", "config.yaml", cwd=tmp_path) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "teacher epoch 1" in first.stdout
    assert "teacher" not in second.stdout
    assert [line for line in first.stdout.splitlines() if not line.startswith("teacher")] == second.stdout.splitlines()
    listed = run("artifacts", cwd=tmp_path).stdout
    assert "simclr on resnet10_w4, 1 epochs" in listed
    (bank,) = [line.split()[1] for line in listed.splitlines() if line.startswith("bank")]
    assert '"recipe"' in run("artifacts", "--show", bank[:6], cwd=tmp_path).stdout
    assert bank not in run("artifacts", "--remove", bank, cwd=tmp_path).stdout
    refused(run("artifacts", "--show", bank, cwd=tmp_path), bank)
    assert launch("artifacts", "--prune-gib", "0", cwd=tmp_path).stdout.splitlines()[-1] == "no artifacts"

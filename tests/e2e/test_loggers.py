"""A sweep with TensorBoard and W&B beside MLflow, and its resume."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raydistill.records.journal import Journal
from raydistill.sweep.workers.local_launcher import LAUNCHER

ROOT = Path(__file__).parents[2]
SMALL = {
    "data.limit": 60,
    "data.batch_size": 16,
    "data.image_size": 8,
    "eval.probe_epochs": 2,
    "method.backbone": "resnet10_w4",
}


def typed(folder, *words):
    small = [f"--set={path}={value}" for path, value in SMALL.items()]
    sweep = [str(ROOT / "sweep.py"), "--method=simclr", "--trials=2", "--epochs=2", "--seeds=1", "--name=s", *small]
    environment = os.environ | {LAUNCHER: "local", "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, *sweep, "--logger=tensorboard", "--logger=wandb", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left alone" not in done.stderr
    return done


def scalars(folder):
    """Every point of every trial: (trial, name, step) and its value."""
    for trial in (path for path in folder.iterdir() if path.is_dir()):
        run = EventAccumulator(str(trial), size_guidance={"scalars": 0})
        run.Reload()
        for name in run.Tags()["scalars"]:
            for event in run.Scalars(name):
                yield (trial.name, name, event.step), event.value


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tensorboard_and_wandb_have_what_the_journal_has_also_after_a_resume(tmp_path):
    for words in ((), ("--resume",)):
        typed(tmp_path, *words)
        sweep = tmp_path / "runs" / "s"
        trials = Journal(sweep / "journal.jsonl").trials
        points = list(scalars(sweep / "tensorboard"))
        assert set(Counter(point for point, _ in points).values()) == {1}
        expected = {
            (key, name, epoch): value
            for key, trial in trials.items()
            for epoch, metrics in trial.results.items()
            for name, value in metrics.items()
        }
        assert len(expected) > 20
        found = dict(points)
        assert {point: found[point] for point in expected} == pytest.approx(expected, rel=1e-5)
        assert any(name == "test_knn" for _, name, _ in found)
        folders = list((sweep / "wandb").glob("offline-run-*"))
        assert len({folder.name.rpartition("-")[2] for folder in folders}) == len(trials) + 1

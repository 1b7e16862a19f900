"""A sweep that is ended from outside ends in order, says how to go on, and goes on."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import mlflow
import psutil
import pytest
from helpers.commands import ROOT

pytestmark = pytest.mark.e2e
TINY = [
    *("--method", "simclr", "--trials", "1", "--epochs", "16", "--seeds", "1", "--no-baseline-search", "--name", "s"),
    *("--set", "method.backbone=resnet10_w4", "--set", "data.limit=200", "--set", "data.batch_size=16"),
    *("--threads", "1", "--learners", "1"),
]


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}


@pytest.mark.fault(4)
def test_sigterm_in_mid_epoch_ends_a_sweep_that_resumes(tmp_path):
    """As Slurm, Kubernetes and spot machines end a job."""
    command = [sys.executable, str(ROOT / "sweep.py"), *TINY]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=out, stderr=err)
    journal = tmp_path / "runs" / "s" / "journal.jsonl"
    try:
        wait(lambda: journal.exists() and '"result"' in journal.read_text(), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    (line,) = (tmp_path / "err").read_text().strip().splitlines()
    assert line.startswith("error: ended by SIGTERM; go on with: ")
    typed = line.partition("go on with: ")[2]
    assert typed.endswith("--resume")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'raydistill'")
    states = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert "RUNNING" not in states
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweep.py"), *shlex.split(typed)[2:]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    epochs = [int(epoch) for epoch in re.findall(r'"result", "key": "t0000", "epoch": (\d+)', journal.read_text())]
    assert epochs == sorted(set(epochs)), "no epoch is trained twice"
    assert epochs[-1] == 16


@pytest.mark.fault(4)
def test_sigterm_while_ray_starts_leaves_nothing(tmp_path):
    command = [sys.executable, str(ROOT / "sweep.py"), *TINY]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        started = psutil.Process(process.pid)
        wait(lambda: any("gcs_server" in child.name() for child in started.children(recursive=True)), process)
        family = started.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert said.strip() == "error: ended by SIGTERM; nothing had begun; the same command starts it"
    assert not list((tmp_path / "runs").glob("*/*"))
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def wait(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the sweep has ended"
        assert time.monotonic() < end
        time.sleep(0.2)

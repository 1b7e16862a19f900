"""The same command as a job on a Ray head with token authentication, as clusters/README.md types it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raydistill.sweep.journal import Journal

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def head(tmp_path):
    """A Ray head of this test's own: its token, its ports, its folder. Ended by the processes' ids."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    token = subprocess.run(
        [RAY, "get-auth-token", "--generate"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert token.returncode == 0, token.stderr
    port, dashboard, agent = free_ports(3)
    folder = Path("/tmp") / f"raydistill-{os.getpid()}"
    command = [
        RAY, "start", "--head", "--block", "--num-cpus=2", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]  # fmt: skip
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        yield environment, f"http://127.0.0.1:{dashboard}"
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([*children, process], timeout=10)
        for each in alive:
            each.kill()
        process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def submit(environment, address, *command, token=True):
    hidden = {} if token else {"RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *command],
        cwd=ROOT, env=environment | hidden, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def wait_until_up(environment, address):
    for _ in range(20):
        listed = subprocess.run(
            [RAY, "job", "list", "--address", address], env=environment, capture_output=True, text=True, timeout=60
        )
        if listed.returncode == 0:
            return
    raise AssertionError(listed.stderr)


def test_a_sweep_runs_as_a_job_and_only_with_the_token(head, tmp_path):
    environment, address = head
    wait_until_up(environment, address)
    refused = submit(environment, address, "true", token=False)
    assert refused.returncode != 0
    tiny = ["method.backbones=[resnet10_w4, resnet10_w4]", "data.limit=40", "data.batch_size=16", "data.image_size=8"]
    sweep = [
        "python", "sweep.py", "--method", "dogo", "--trials", "2", "--epochs", "1", "--seeds", "1", "--name", "job",
        *(f"--set={setting}" for setting in tiny),
    ]  # fmt: skip
    for _ in range(10):  # the agent that takes jobs starts a while after the dashboard that answers for it
        done = submit(environment, address, *sweep)
        if "No available agent" not in done.stdout + done.stderr:
            break
        time.sleep(3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| dogo" in done.stdout
    home = tmp_path / "raydistill"
    trials = Journal(home / "runs" / "job" / "journal.jsonl").trials
    assert [trial.outcome for trial in trials.values()].count("finished") == len(trials) >= 3
    assert (home / "mlflow.db").exists()

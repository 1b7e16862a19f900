"""The same command as a job on a Ray head with token authentication, as clusters/README.md types it."""

import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers.servers.heads import RAY, ray_head
from helpers.servers.mlflow_servers import Server
from mlflow import MlflowClient

from raydistill.records.journal import Journal

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def head(tmp_path):
    with ray_head(tmp_path) as head:
        yield head


def submit(head, *command, token=True):
    hidden = {} if token else {"RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--", *command],
        cwd=ROOT,
        env=head.environment | hidden,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.fault(3)
@pytest.mark.timeout(600)
def test_a_job_with_a_token_survives_a_killed_worker_and_every_metric_reaches_the_server(head, tmp_path):
    refused = submit(head, "true", token=False)
    assert refused.returncode != 0
    tiny = ["method.backbones=[resnet10_w4, resnet10_w4]", "data.limit=40", "data.batch_size=16", "data.image_size=8"]
    journal = tmp_path / "raydistill" / "runs" / "job" / "journal.jsonl"
    space = tmp_path / "space.yaml"
    space.write_text("method: random\nparameters: {method.lambda_kd: {min: 1, max: 100}}\n")
    with Server(f"sqlite:///{tmp_path}/server.db", tmp_path) as server:
        sweep = [
            "python",
            "sweep.py",
            "--method",
            "dogo",
            "--trials",
            "3",
            "--epochs",
            "6",
            "--seeds",
            "1",
            "--threads",
            "1",
            "--no-baseline-search",
            "--name",
            "job",
            "--search-space",
            str(space),
            "--tracking-uri",
            server.url,
            *(f"--set={setting}" for setting in tiny),
        ]
        killed = []
        killer = threading.Thread(target=kill_a_worker, args=(journal, head, killed), daemon=True)
        killer.start()
        for _ in range(10):  # the agent that takes jobs starts a while after the dashboard that answers for it
            done = submit(head, *sweep)
            if "No available agent" not in done.stdout + done.stderr:
                break
            time.sleep(3)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "| dogo" in done.stdout
        assert killed
        trials = Journal(journal).trials
        assert len([key for key in trials if key.startswith("t0")]) == 3
        client = MlflowClient(server.url)
        experiment = client.get_experiment_by_name("raydistill").experiment_id
        runs = {run.data.tags.get("raydistill.trial"): run for run in client.search_runs([experiment])}
        assert set(runs) == {None, *trials}, "the sweep itself, and each trial once"
        for key, trial in trials.items():
            assert (trial.outcome, sorted(trial.results)) == ("finished", list(range(1, 7)))
            assert runs[key].info.status == "FINISHED"
            for metric in trial.latest():
                points = client.get_metric_history(runs[key].info.run_id, metric)
                told = {epoch: values[metric] for epoch, values in trial.results.items() if metric in values}
                assert {p.step: p.value for p in points if p.step in told} == pytest.approx(told), (key, metric)


def kill_a_worker(journal, head, killed):
    while not killed:
        if journal.exists() and '"epoch": 3' in journal.read_text():
            for process in head.children():
                with suppress(psutil.Error):
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
        time.sleep(0.01)

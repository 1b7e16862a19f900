"""The tracker beside real MLflow servers, on SQLite and on PostgreSQL, that go away and come back."""

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.servers.mlflow_servers import Server
from helpers.servers.ports import free_ports
from mlflow import MlflowClient

from raydistill.tracking import delivery_queue
from raydistill.tracking.tracker import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def postgres_tool(name):
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        pytest.skip(f"no {name}: install Debian's postgresql")
    return found


@contextmanager
def postgres(folder):
    """A server of this test's own, by Debian's package; yields its address for SQLAlchemy."""
    # It refuses to run as root, and must reach its folder.
    who = {"user": "postgres"} if os.geteuid() == 0 else {}
    data = folder / "data"
    folder.mkdir()
    if who:
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != Path(parent.anchor):
                parent.chmod(parent.stat().st_mode | 0o011)
    (port,) = free_ports(1)
    subprocess.run(
        [postgres_tool("initdb"), "--pgdata", data, "--username", "mlflow", "--auth", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
        **who,
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [postgres_tool("postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"],
            stdout=log,
            stderr=log,
            cwd="/",
            **who,
        )
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            [postgres_tool("pg_isready"), "-h", "127.0.0.1", "-p", str(port)], capture_output=True
        ).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request, tmp_path_factory):
    """One for both tests, which use an experiment each: its start and its tables take ten seconds."""
    folder = tmp_path_factory.mktemp(request.param)
    with store(request.param, folder) as address, Server(address, folder) as server:
        yield server


@contextmanager
def store(kind, folder):
    if kind == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    with postgres(folder / "postgres") as address:
        yield address


@pytest.mark.fault(11)
def test_what_is_logged_while_the_server_is_away_arrives_when_it_is_back(server, monkeypatch):
    # Pauses of up to eight seconds would go on after the server is back.
    monkeypatch.setattr(delivery_queue, "LONGEST_PAUSE", 2 * delivery_queue.FIRST_PAUSE)
    tracker = Tracker(server.url, "outage", "sweep", params={"a": 1}, system_metrics=False)
    tracker.start_trial("t0000", {"train.lr": 0.1})
    for epoch in range(1, 6):
        tracker.log("t0000", epoch, {"val_knn": epoch / 10, "loss": 1.0 / epoch})
    assert tracker.flush(60)
    server.kill()
    began = time.monotonic()
    for epoch in range(6, 31):
        tracker.log("t0000", epoch, {"val_knn": epoch / 100, "loss": 1.0 / epoch})
    tracker.start_trial("t0001", {"train.lr": 0.2})
    tracker.log("t0001", 1, {"val_knn": 0.5})
    tracker.end_trial("t0001", "finished")
    assert time.monotonic() - began < 1, "training is not held up"
    time.sleep(3)
    server.start()
    assert tracker.close("finished", timeout=120) == 0
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("outage").experiment_id
    runs = {run.data.tags.get("raydistill.trial"): run for run in client.search_runs([experiment])}
    assert set(runs) == {None, "t0000", "t0001"}
    points = client.get_metric_history(runs["t0000"].info.run_id, "val_knn")
    assert sorted(point.step for point in points) == list(range(1, 31)), "none lost, none twice"
    assert runs["t0001"].info.status == "FINISHED"


def test_several_sweeps_at_once_do_not_lock_each_other_out(server):
    failed = []

    def sweep(name):
        tracker = Tracker(server.url, "together", name, params={}, system_metrics=False)
        for trial in range(4):
            tracker.start_trial(f"t{trial:04d}", {"train.lr": 0.1})
            for epoch in range(1, 11):
                tracker.log(f"t{trial:04d}", epoch, {"val_knn": 0.1 * epoch})
            tracker.end_trial(f"t{trial:04d}", "finished")
        if undelivered := tracker.close("finished", timeout=200):
            failed.append((name, undelivered))

    threads = [threading.Thread(target=sweep, args=(f"sweep-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("together").experiment_id
    runs = client.search_runs([experiment], max_results=100)
    assert len(runs) == 3 * (1 + 4)
    for run in runs:
        if "raydistill.trial" in run.data.tags:
            points = client.get_metric_history(run.info.run_id, "val_knn")
            assert sorted(point.step for point in points) == list(range(1, 11))

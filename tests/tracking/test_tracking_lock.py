"""Sweeps that start at the same moment share one new SQLite store: its tables are created once."""

import errno
import fcntl
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from raydistill.tracking import client
from raydistill.tracking.client import TrackingError, connect, find_experiment

pytest.importorskip("mlflow")
PROCESSES = 3


def sweep(uri: str, experiment: str, start: Any, answers: Any) -> None:
    """What a sweep does first, in a process of its own, as soon as all others are ready."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - slow; the race is about what comes after

    start.wait(120)
    try:
        answers.put(find_experiment(connect(uri, experiment), uri, experiment))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {str(error)[:300]}")


@pytest.mark.slow
def test_sweeps_that_start_together_share_a_new_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(PROCESSES), context.Queue()
    arguments = (f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", "shared", start, answers)
    processes = [context.Process(target=sweep, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=200) for _ in processes]
    for process in processes:
        process.join()
    assert found == ["1"] * PROCESSES


def test_a_lock_that_is_never_released_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOCK_TIMEOUT_S", 0.2)
    database = tmp_path / "mlflow.db"
    begin = time.monotonic()
    with (tmp_path / "mlflow.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TrackingError, match=r"mlflow\.db\.lock: held by another process for 0\.2 s"):
            connect(f"sqlite:///{database}", "e")
    assert 0.2 <= time.monotonic() - begin < 5
    with client.locked(database), pytest.raises(TrackingError, match="held by another process"):
        connect(f"sqlite:///{database}", "e")
    with client.locked(database):
        pass


@pytest.mark.fault(10)
def test_a_lock_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.lock").mkdir()
    with pytest.raises(TrackingError, match=rf"mlflow\.db\.lock: {os.strerror(errno.EISDIR)}"):
        connect(f"sqlite:///{tmp_path / 'mlflow.db'}", "e")

"""A lock has one holder, a limit, and a message that names the holder."""

import multiprocessing
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from raydistill import locks
from raydistill.locks import LockHeldError, hold_lock


def holder(path: Path, held: Any, end: Any) -> None:
    with hold_lock(path, 10):
        held.set()
        end.wait(60)


@pytest.fixture
def other(tmp_path):
    """A lock file, and the process that holds it."""
    context = multiprocessing.get_context("spawn")
    held, end = context.Event(), context.Event()
    process = context.Process(target=holder, args=(tmp_path / "new" / "x.lock", held, end))
    process.start()
    assert held.wait(60)
    yield tmp_path / "new" / "x.lock", process, end
    if process.is_alive():  # setting an event waits for whoever waits for it, also for a process that was killed
        end.set()
    process.join()


def test_the_holder_is_named(other, monkeypatch):
    path, process, end = other
    named = f"{path}: held by another process, {process.pid} on {socket.gethostname()}, for 0.1 s"
    with pytest.raises(LockHeldError, match=re.escape(named)), hold_lock(path, 0.1):
        pass
    monkeypatch.setattr(locks, "NOTICE_S", 0.1)
    said = []

    def warn(text: str, *words: object) -> None:
        said.append(text % words)
        end.set()

    monkeypatch.setattr(locks.log, "warning", warn)
    with hold_lock(path, 60):
        assert said == [f"waiting for {path}, held by another process, {process.pid} on {socket.gethostname()},"]
        assert path.read_text().split() == [str(os.getpid()), socket.gethostname()]
    assert path.read_text() == ""


def test_what_a_dead_process_held_is_free(other):
    path, process, _ = other
    process.kill()
    process.join()
    with hold_lock(path, 10):
        pass


def test_a_failure_inside_frees_the_lock(tmp_path):
    with pytest.raises(ValueError, match="inside"), hold_lock(tmp_path / "x", 1):
        raise ValueError("inside")
    with hold_lock(tmp_path / "x", 1):
        pass


def test_a_lock_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(IsADirectoryError), hold_lock(tmp_path, 1):
        pass

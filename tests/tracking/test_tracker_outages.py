"""The tracker while MLflow is away, slow or full: nothing is lost, doubled or waited for."""

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.servers.mlflow_runs import ORIGINAL_CLIENT, Recorder, history, runs, wait_until

from raydistill.tracking import client as mlflow_client
from raydistill.tracking import delivery_queue
from raydistill.tracking.tracker import Tracker, TrackingError


def test_calls_are_coalesced_in_order(store: str, opened: Callable[..., Tracker], recorder: type[Recorder]) -> None:
    """1,000 interleaved calls of ten trials: few batches, and far less than the five seconds allowed."""
    tracker = opened()
    begin = time.monotonic()
    for key in range(10):
        tracker.start_trial(f"t{key}", {})
    for step in range(100):
        for key in range(10):
            tracker.log(f"t{key}", step, {"loss": float(step), "knn": 0.5})
    assert time.monotonic() - begin < 2, "logging must not wait for the store"
    assert tracker.flush(5)
    assert len(recorder.calls) < 60
    for key in range(10):
        points = history(store, runs(tracker, store)[f"t{key}"], "loss")
        assert points == [(step, float(step)) for step in range(100)]


@pytest.mark.usefixtures("quick")
def test_a_call_carries_at_most_1000_metrics(
    store: str, opened: Callable[..., Tracker], recorder: type[Recorder]
) -> None:
    tracker = opened()
    recorder.error = ConnectionError("away, so that calls pile up")
    tracker.log_parent({f"m{i}": float(i) for i in range(1300)})
    for step in range(1, 5):
        tracker.log_parent({f"m{i}": float(i) for i in range(400)}, step)
    recorder.calls.clear()
    recorder.error = None
    assert tracker.flush()
    assert max(recorder.calls) == 1000
    assert len(recorder.calls) < 10
    assert len(runs(tracker, store)["sweep-1"].data.metrics) == 1300


@pytest.mark.fault(11)
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("applied", [False, True], ids=["lost", "answer-lost"])
def test_an_outage_loses_and_doubles_nothing(
    store: str, opened: Callable[..., Tracker], recorder: type[Recorder], applied: bool
) -> None:
    """`answer-lost`: the server takes the write, then the connection breaks before its answer."""
    tracker = opened()
    tracker.start_trial("before", {})
    assert tracker.flush()
    recorder.error, recorder.applied = ConnectionError("connection refused"), applied
    tracker.start_trial("during", {"train.lr": 0.1})
    for step in range(50):
        for key in ("before", "during"):
            tracker.log(key, step, {"loss": float(step)})
    tracker.end_trial("before", "stopped_early")
    assert not tracker.flush(0.4)
    recorder.error = None
    assert tracker.flush(5)
    found = runs(tracker, store)
    for key in ("before", "during"):
        assert history(store, found[key], "loss") == [(step, float(step)) for step in range(50)]
    assert found["before"].info.status == "KILLED"
    assert found["during"].data.params == {"train.lr": "0.1"}


@pytest.mark.fault(11)
@pytest.mark.usefixtures("quick")
def test_closing_in_an_outage_counts_what_is_lost(opened: Callable[..., Tracker], recorder: type[Recorder]) -> None:
    tracker = opened()
    recorder.error = ConnectionError("connection refused")
    tracker.log_parent({"a": 1.0})
    begin = time.monotonic()
    assert tracker.close("finished", timeout=0.3) == 2
    assert time.monotonic() - begin < 2
    recorder.error = None


@pytest.mark.usefixtures("quick")
def test_a_bad_event_goes_alone(
    store: str, opened: Callable[..., Tracker], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tracker = opened()
    with caplog.at_level(logging.WARNING, logger=delivery_queue.__name__):
        for step in range(20):
            tracker.log_parent({"bad|name" if step == 7 else "good": float(step)}, step)
        tracker.artifact(None, tmp_path / "missing")
        assert tracker.flush(5)
    good = history(store, runs(tracker, store)["sweep-1"], "good")
    assert good == [(step, float(step)) for step in range(20) if step != 7]
    assert len([r for r in caplog.records if "bad|name" in r.getMessage()]) == 1
    assert len([r for r in caplog.records if "missing" in r.getMessage()]) == 1


@pytest.mark.usefixtures("quick")
def test_one_stuck_run_holds_up_no_other(
    store: str, opened: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_space(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ORIGINAL_CLIENT, "log_artifacts", no_space)
    tracker = opened()
    tracker.artifact(None, tmp_path)
    for key in ("a", "b"):
        tracker.start_trial(key, {})
        tracker.log(key, 1, {"loss": 1.0})
    tracker.log_parent({"winner": 1.0})
    wait_until(lambda: runs(tracker, store)["sweep-1"].data.metrics == {"winner": 1.0})
    found = runs(tracker, store)
    assert all(history(store, found[key], "loss") == [(1, 1.0)] for key in ("a", "b"))
    monkeypatch.undo()
    assert tracker.flush(10), "the upload is repeated until it succeeds"


def test_a_busy_database_is_waited_for() -> None:
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

    assert delivery_queue.transient(MlflowException("database is locked", BAD_REQUEST))
    assert delivery_queue.transient(MlflowException("away", TEMPORARILY_UNAVAILABLE))
    assert delivery_queue.transient(MlflowException("API request failed with exception ConnectionError"))
    assert not delivery_queue.transient(MlflowException("changing a param", INVALID_PARAMETER_VALUE))
    assert not delivery_queue.transient(RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}))
    assert not delivery_queue.transient(TypeError("a bug"))


@pytest.mark.fault(12)
@pytest.mark.parametrize("server", ["closed", "silent"])
@pytest.mark.slow
def test_no_server_fails_within_ten_seconds(server: str) -> None:
    before = {name: os.environ.get(name) for name in mlflow_client.PROBE}
    begin = time.monotonic()
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if server == "silent":
            listener.listen()
        uri = f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TrackingError, match=r"MLflow at http://\*\*\*@127\.0\.0\.1:\d+ cannot be used") as caught:
            Tracker(uri, "e", "s", params={})
    assert time.monotonic() - begin < 10
    assert "secret" not in str(caught.value)
    assert {name: os.environ.get(name) for name in mlflow_client.PROBE} == before


@pytest.mark.fault(10)
def test_an_unusable_database_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, though long enough to be taken for the header of one" * 9)
    (tmp_path / "folder").mkdir()
    begin = time.monotonic()
    for bad in ("file", "folder", "file/inside.db"):
        with pytest.raises(TrackingError, match="cannot be used"):
            Tracker(f"sqlite:///{tmp_path / bad}", "e", "s", params={})
    assert time.monotonic() - begin < 5

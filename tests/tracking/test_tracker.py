"""The tracker: what a sweep leaves in MLflow, and that nothing of it is lost, doubled or waited for."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raydistill.records.names import check_name
from raydistill.redaction import redact
from raydistill.tracking import client as mlflow_client
from raydistill.tracking import delivery_queue
from raydistill.tracking.tracker import Tracker, TrackingError

mlflow = pytest.importorskip("mlflow")
ORIGINAL_CLIENT = mlflow.MlflowClient


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests, which use an experiment each: creating the tables costs seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'deep' / 'mlflow.db'}"


@pytest.fixture
def opened(store: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tracker]]:
    """Opens trackers on this test's own experiment and closes them."""
    trackers: list[Tracker] = []

    def open_(**options: Any) -> Tracker:
        given = {"experiment": request.node.name.replace("[", "-").replace("]", ""), "sweep": "sweep-1"}
        settings = {"params": {}, "system_metrics": False} | given | options
        trackers.append(Tracker(store, **settings))
        return trackers[-1]

    yield open_
    for tracker in trackers:
        tracker.close("finished", timeout=5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off within milliseconds."""
    monkeypatch.setattr(delivery_queue, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery_queue, "LONGEST_PAUSE", 0.05)


class Recorder(ORIGINAL_CLIENT):  # type: ignore[misc, valid-type]
    """A client that counts, and fails when told to."""

    calls: list[int]
    error: Exception | None
    applied: bool

    def log_batch(self, run_id: str, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(len(kwargs.get("metrics", ())))
        if type(self).applied:
            super().log_batch(run_id, *args, **kwargs)
        if type(self).error is not None:
            raise type(self).error
        return None if type(self).applied else super().log_batch(run_id, *args, **kwargs)

    def create_run(self, *args: Any, **kwargs: Any) -> Any:
        run = super().create_run(*args, **kwargs)
        if type(self).error is not None:
            raise type(self).error
        return run


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.calls, Recorder.error, Recorder.applied = [], None, False
    monkeypatch.setattr("mlflow.MlflowClient", Recorder)
    return Recorder


def runs(tracker: Tracker, store: str) -> dict[str, Any]:
    """Every run of the experiment by its name; fails on doubled names."""
    found = ORIGINAL_CLIENT(store).search_runs([tracker.experiment_id])
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found), "a run exists twice"
    return by_name


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def history(store: str, run: Any, metric: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in ORIGINAL_CLIENT(store).get_metric_history(run.info.run_id, metric)]


@pytest.mark.parametrize("name", ["a", "dogo-2.cifar_10", "0" * 128])
def test_safe_names_pass(name: str) -> None:
    assert check_name("sweep", name) == name


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "a\n", "ä", "a'", "a" * 129, None])
def test_unsafe_names_are_refused_and_told_why(name: Any) -> None:
    with pytest.raises(ValueError, match=r"sweep name .* refused: use 1 to 128 letters"):
        check_name("sweep", name)


@pytest.mark.fault(15)
def test_tracker_refuses_unsafe_names_before_it_connects(opened: Callable[..., Tracker]) -> None:
    with pytest.raises(ValueError, match="experiment name"):
        Tracker("http://127.0.0.1:1", "../x", "s", params={})
    with pytest.raises(ValueError, match="sweep name"):
        Tracker("http://127.0.0.1:1", "x", "a/b", params={})
    with pytest.raises(ValueError, match="trial name"):
        opened().start_trial("a' OR 'b", {})


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = (
        "import sys, raydistill.tracking.tracker; sys.exit(any(m in sys.modules for m in ('mlflow', 'torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parent_and_children(store: str, opened: Callable[..., Tracker]) -> None:
    tracker = opened(params={"data.source": "digits", "trials": 2}, tags={"raydistill.method": "dogo"})
    params = {"train.lr": 3e-4, "train.clip_norm": None, "eval.ks": [1, 2], "method.name": "x" * 9000}
    params |= {f"method.p{i}": i for i in range(150)}
    tracker.start_trial("t0", params, tags={"raydistill.role": "search"})
    for step in (1, 2, 3):
        tracker.log("t0", step, {"loss": 1 / step, "bad": float("nan"), "worse": float("-inf")})
    tracker.log_parent({"winner": 0.5})
    tracker.tag_parent({"raydistill.winner": "t0"})
    tracker.end_trial("t0", "finished")
    assert tracker.flush()

    found = runs(tracker, store)
    assert set(found) == {"sweep-1", "t0"}
    parent, child = found["sweep-1"], found["t0"]
    assert parent.info.run_id == tracker.parent_id and parent.info.status == "RUNNING"
    assert parent.data.params == {"data.source": "digits", "trials": "2"}
    assert parent.data.metrics == {"winner": 0.5}
    assert {"raydistill.method": "dogo", "raydistill.winner": "t0"}.items() <= parent.data.tags.items()
    tags = {"raydistill.sweep": "sweep-1", "raydistill.trial": "t0", "raydistill.role": "search"}
    tags |= {"mlflow.parentRunId": tracker.parent_id, "mlflow.runName": "t0", "raydistill.outcome": "finished"}
    assert tags.items() <= child.data.tags.items()
    assert len(child.data.params) == 154
    assert child.data.params["train.lr"] == "0.0003" and child.data.params["train.clip_norm"] == "none"
    assert child.data.params["eval.ks"] == "[1, 2]" and child.data.params["method.name"] == "x" * 6000
    assert history(store, child, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert set(child.data.metrics) == {"loss"}


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("outcome", "status"),
    [("finished", "FINISHED"), ("stopped_early", "KILLED"), ("failed", "FAILED"), ("interrupted", "KILLED")],
)
def test_outcomes_are_told_apart(store: str, opened: Callable[..., Tracker], outcome: Any, status: str) -> None:
    tracker = opened()
    tracker.start_trial("t", {})
    assert tracker.flush()
    assert runs(tracker, store)["t"].data.tags["raydistill.outcome"] == "running"
    tracker.end_trial("t", outcome, "because")
    assert tracker.close(outcome) == 0
    for run in runs(tracker, store).values():
        assert (run.info.status, run.data.tags["raydistill.outcome"]) == (status, outcome)
    assert runs(tracker, store)["t"].data.tags["raydistill.message"] == "because"


def test_an_unknown_outcome_is_refused(opened: Callable[..., Tracker]) -> None:
    with pytest.raises(ValueError, match="valid: finished, stopped_early, failed, interrupted"):
        opened().end_trial("t", "done")  # type: ignore[arg-type]


def test_close_ends_open_trials_as_interrupted_and_may_be_repeated(store: str, opened: Callable[..., Tracker]) -> None:
    tracker = opened()
    tracker.start_trial("open", {})
    assert tracker.close("failed") == 0
    assert tracker.close("finished") == 0
    found = runs(tracker, store)
    assert found["open"].data.tags["raydistill.outcome"] == "interrupted"
    assert found["sweep-1"].info.status == "FAILED"


@pytest.mark.fault(4)
def test_resume_doubles_nothing(store: str, opened: Callable[..., Tracker]) -> None:
    """The first tracker is left behind as a killed driver leaves it."""
    first = opened(params={"trials": 2})
    for key in ("done", "half"):
        first.start_trial(key, {"train.lr": 0.1})
        first.log(key, 1, {"loss": 1.0})
    first.end_trial("done", "finished")
    assert first.flush()

    second = opened(params={"trials": 3, "seeds": 1})
    assert (second.parent_id, second.experiment_id) == (first.parent_id, first.experiment_id)
    second.start_trial("half", {"train.lr": 0.2, "train.epochs": 2})
    for step in (1, 2, 2):
        second.log("half", step, {"loss": 5.0 * step})
    second.log("done", 1, {"loss": 9.0, "test_knn": 0.7})
    assert second.flush()

    found = runs(second, store)
    assert set(found) == {"sweep-1", "done", "half"}
    assert found["sweep-1"].data.params == {"trials": "2", "seeds": "1"}
    assert found["half"].data.params == {"train.lr": "0.1", "train.epochs": "2"}
    assert history(store, found["half"], "loss") == [(1, 1.0), (2, 10.0)]
    assert history(store, found["done"], "loss") == [(1, 1.0)]
    assert history(store, found["done"], "test_knn") == [(1, 0.7)]
    assert found["done"].info.status == "FINISHED", "scoring a finished trial must not reopen it"


@pytest.mark.fault(4)
def test_resume_reopens_ended_runs(store: str, opened: Callable[..., Tracker]) -> None:
    first = opened()
    first.start_trial("t", {})
    first.close("interrupted")
    second = opened()
    second.start_trial("t", {})
    assert second.flush()
    for run in runs(second, store).values():
        assert (run.info.status, run.data.tags["raydistill.outcome"]) == ("RUNNING", "running")


def test_sweeps_of_one_experiment_stay_apart(store: str, opened: Callable[..., Tracker]) -> None:
    one, two = opened(), opened(sweep="sweep-2")
    assert one.experiment_id == two.experiment_id and one.parent_id != two.parent_id
    for tracker in (one, two):
        tracker.start_trial("t", {})
        assert tracker.flush()
    children = [r for r in ORIGINAL_CLIENT(store).search_runs([one.experiment_id]) if r.info.run_name == "t"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {one.parent_id, two.parent_id}


def test_artifacts_lie_beside_the_database(store: str, opened: Callable[..., Tracker], tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("table")
    tracker = opened()
    tracker.start_trial("t", {})
    tracker.artifact(None, tmp_path / "table.md")
    tracker.artifact("t", tmp_path / "table.md", "checkpoint")
    tracker.artifact("t", tmp_path, "all")
    assert tracker.flush()
    root = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts"
    child = runs(tracker, store)["t"].info.run_id
    assert (root / tracker.parent_id / "artifacts" / "table.md").read_text() == "table"
    assert (root / child / "artifacts" / "checkpoint" / "table.md").is_file()
    assert (root / child / "artifacts" / "all" / "table.md").is_file()


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
    assert max(recorder.calls) == 1000 and len(recorder.calls) < 10
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
    assert found["before"].info.status == "KILLED" and found["during"].data.params == {"train.lr": "0.1"}


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


def test_a_deleted_experiment_is_refused(store: str, opened: Callable[..., Tracker]) -> None:
    tracker = opened()
    ORIGINAL_CLIENT(store).delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match="is deleted; restore it"):
        opened()


def test_system_metrics_reach_the_parent(
    store: str, opened: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = opened(system_metrics=True)
    parent = runs(tracker, store)["sweep-1"]
    wait_until(lambda: len(history(store, parent, "system/cpu_utilization_percentage")) >= 2)
    assert tracker.close("finished") == 0
    points = history(store, parent, "system/cpu_utilization_percentage")
    assert all(0 <= value <= 100 for _, value in points)
    assert [step for step, _ in points] == sorted({step for step, _ in points})


def test_pickles_are_off_by_default(opened: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    opened()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:p@ss@host:5000", "http://***@host:5000"),
        ("postgresql://h/db?user=a&password=hush", "postgresql://h/db?user=a&password=***"),
        ("mysql://u:a:b@h", "mysql://***@h"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_no_password_of_an_address_is_shown(address: str, shown: str) -> None:
    assert redact(f"MLflow at {address} is away") == f"MLflow at {shown} is away"

"""The tracker: what a sweep leaves in MLflow, and that nothing of it is doubled."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.servers.mlflow_runs import ORIGINAL_CLIENT, history, runs, wait_until

from raydistill.records.names import check_name
from raydistill.redaction import redact
from raydistill.tracking.client import find_experiment
from raydistill.tracking.tracker import Tracker, TrackingError


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
    assert parent.info.run_id == tracker.parent_id
    assert parent.info.status == "RUNNING"
    assert parent.data.params == {"data.source": "digits", "trials": "2"}
    assert parent.data.metrics == {"winner": 0.5}
    assert {"raydistill.method": "dogo", "raydistill.winner": "t0"}.items() <= parent.data.tags.items()
    tags = {"raydistill.sweep": "sweep-1", "raydistill.trial": "t0", "raydistill.role": "search"}
    tags |= {"mlflow.parentRunId": tracker.parent_id, "mlflow.runName": "t0", "raydistill.outcome": "finished"}
    assert tags.items() <= child.data.tags.items()
    assert len(child.data.params) == 154
    assert child.data.params["train.lr"] == "0.0003"
    assert child.data.params["train.clip_norm"] == "none"
    assert child.data.params["eval.ks"] == "[1, 2]"
    assert child.data.params["method.name"] == "x" * 6000
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
    assert one.experiment_id == two.experiment_id
    assert one.parent_id != two.parent_id
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


def test_a_deleted_experiment_is_refused(store: str, opened: Callable[..., Tracker]) -> None:
    tracker = opened()
    ORIGINAL_CLIENT(store).delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match=r"mlflow experiments restore --experiment-id \d+` brings it back"):
        opened()


def test_a_database_that_was_moved_says_where_its_files_are(
    store: str, opened: Callable[..., Tracker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = opened()
    assert tracker.flush()
    database = Path(store.removeprefix("sqlite:///"))
    with caplog.at_level(logging.WARNING, logger="raydistill.tracking.client"):
        name = ORIGINAL_CLIENT(store).get_experiment(tracker.experiment_id).name
        find_experiment(ORIGINAL_CLIENT(store), store, name)
        assert not caplog.records
        address = f"sqlite:///{shutil.copy(database, tmp_path / 'mlflow.db')}"
        find_experiment(ORIGINAL_CLIENT(address), address, name)
    (record,) = caplog.records
    assert f"keeps the files of runs in {database.parent / 'mlartifacts'}" in record.getMessage()


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

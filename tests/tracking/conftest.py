"""A store of MLflow for all tests of the tracker, and clients that fail when told to."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.servers.mlflow_runs import Recorder

from raydistill.tracking import delivery_queue
from raydistill.tracking.client import connect
from raydistill.tracking.tracker import Tracker


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests, which use an experiment each: creating the tables costs seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'deep' / 'mlflow.db'}"
    connect(uri, "tables")
    return uri


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


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.calls, Recorder.error, Recorder.applied = [], None, False
    monkeypatch.setattr("mlflow.MlflowClient", Recorder)
    return Recorder

"""What an MLflow holds of a sweep, to compare one with another, and a client that fails when told to."""

import time
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient

from raydistill.tracking.tracker import Tracker

ORIGINAL_CLIENT = MlflowClient  # tests put another one into mlflow
OWN = ("mlflow.", "system/")  # what MLflow adds by itself, and the load of the machine


def held(uri, sweep):
    """By run: parameters, metrics by step, tags, files, and when it began, in seconds."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    runs = client.search_runs([experiment], f"tags.`raydistill.sweep` = '{sweep}'")
    return {
        run.data.tags["mlflow.runName"]: {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {k: v for k, v in run.data.tags.items() if not k.startswith(OWN)},
            "metrics": {
                name: {p.step: p.value for p in client.get_metric_history(run.info.run_id, name)}
                for name in run.data.metrics
                if not name.startswith(OWN)
            },
            "files": sorted(listed(client, run.info.run_id)),
            "times": (run.info.start_time / 1000, run.info.end_time / 1000),
        }
        for run in runs
    }


def listed(client, run_id, path=None):
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from listed(client, run_id, file.path)
        else:
            yield file.path


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

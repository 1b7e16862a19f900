"""The sweep's runs in an MLflow store: a parent and its children, found again by their tags."""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from raydistill.errors import RaydistillError
from raydistill.locks import LockHeldError, hold_lock
from raydistill.records.names import check_name
from raydistill.redaction import redact, redact_values
from raydistill.storage import Remote, StoragePath
from raydistill.tracking.delivery_queue import Point

log = logging.getLogger(__name__)

STATUS = {"finished": "FINISHED", "stopped_early": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
PARENT = ""
SWEEP, TRIAL, ROLE = "raydistill.sweep", "raydistill.trial", "raydistill.role"
OUTCOME, MESSAGE = "raydistill.outcome", "raydistill.message"
ID = "raydistill.id"
DIGEST = "raydistill.digest"  # of a sweep's images
SCORED_AGAIN = "raydistill.scored_again"  # says that test scores had been seen before the last trials
ADDED = "raydistill.added"  # a user asked for these settings while the search ran
SETTINGS = "raydistill.settings"  # of a population's trial, as the last copy left them
EXPERIMENT = "raydistill"
PARAMS_PER_CALL, PARAM_LENGTH, TAG_LENGTH = 100, 6000, 5000
MAX_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
FILES = "mlartifacts"  # folder beside an SQLite file, for the files of runs
PROBE = {MAX_RETRIES: "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
LOCK_TIMEOUT_S = 120.0  # creating the tables takes a few of them


class TrackingError(RaydistillError, RuntimeError):
    """The tracking store cannot be used; the message names it and the cause."""


@dataclass
class MLflowRun:
    """Run in MLflow: its id, its start in milliseconds since 1970, and whether it is open."""

    id: str
    start_time: int
    running: bool
    identity: str = ""
    params: set[str] = field(default_factory=set)
    history: set[str] = field(default_factory=set)
    steps: dict[str, set[int]] = field(default_factory=dict)


class MLflowRuns:
    """The runs of one sweep. Every operation may be repeated after a failure half-way."""

    def __init__(self, client: Any, experiment_id: str, sweep: str) -> None:
        self._client, self._experiment_id, self._sweep = client, experiment_id, sweep
        self._known: dict[str, MLflowRun] = {}

    def run(self, key: str, when: int | None = None) -> MLflowRun:
        """The run of a trial (or of the sweep), found again by its tags, else created."""
        if key not in self._known:
            self._known[key] = self._find(key) or self._create(key, when or now())
        return self._known[key]

    def start(self, key: str, params: dict[str, str], tags: dict[str, str], when: int) -> None:
        """Create a run, or go on with it.

        Args:
            key: the trial; empty: the sweep itself.
            params, tags: of the run; those that it has are left alone.
            when: milliseconds since 1970.
        """
        from mlflow.entities import Param

        run = self.run(key, when)
        if not run.running:
            self._client.update_run(run.id, status="RUNNING")
            run.running = True
        new = [Param(name, value) for name, value in params.items() if name not in run.params]
        for start in range(0, len(new), PARAMS_PER_CALL):
            self._client.log_batch(run.id, params=new[start : start + PARAMS_PER_CALL])
        run.params.update(params)
        self.tag(key, {**tags, **self._identity(key), OUTCOME: "running"})

    def tag(self, key: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(self.run(key).id, tags=[RunTag(k, str(v)[:TAG_LENGTH]) for k, v in tags.items()])

    def log(self, key: str, points: list[Point]) -> None:
        from mlflow.entities import Metric

        run = self.run(key)
        new: dict[tuple[str, int], Point] = {}
        for point in points:
            if point.step not in self._steps(run, point.key):
                new.setdefault((point.key, point.step), point)
        self._client.log_batch(run.id, metrics=[Metric(*point) for point in new.values()])
        for name, step in new:
            run.steps[name].add(step)

    def artifact(self, key: str, path: StoragePath, folder: str) -> None:
        """Upload a file or folder.

        Args:
            key: the trial.
            path: what to upload.
            folder: where it goes within the run.
        """
        if not path.exists():
            raise FileNotFoundError(f"artifact {path} is gone")
        if isinstance(path, Remote):
            with tempfile.TemporaryDirectory() as passing:
                path.fetch(Path(passing) / path.name)
                self.artifact(key, Path(passing) / path.name, folder)
            return
        upload = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        upload(self.run(key).id, str(path), folder or None)

    def end(self, key: str, outcome: str, message: str, when: int) -> None:
        """Close a run.

        Args:
            key: the trial.
            outcome: how it ended.
            message: the cause.
            when: milliseconds since 1970.
        """
        self.tag(key, {OUTCOME: outcome, MESSAGE: redact(message)})
        run = self.run(key)
        self._client.set_terminated(run.id, STATUS.get(outcome, "FAILED"), when)
        run.running = False

    def _identity(self, key: str) -> dict[str, str]:
        if key == PARENT:
            return {SWEEP: self._sweep, ROLE: "sweep"}
        return {SWEEP: self._sweep, TRIAL: key, "mlflow.parentRunId": self.run(PARENT).id}

    def _find(self, key: str) -> MLflowRun | None:
        own = f"tags.`{ROLE}` = 'sweep'" if key == PARENT else f"tags.`{TRIAL}` = '{check_name('trial', key)}'"
        query = f"tags.`{SWEEP}` = '{self._sweep}' AND {own}"
        found = self._client.search_runs([self._experiment_id], query, max_results=1, order_by=["start_time ASC"])
        if not found:
            return None
        info, data = found[0].info, found[0].data
        running, identity = info.status == "RUNNING", data.tags.get(ID, "")
        return MLflowRun(info.run_id, info.start_time, running, identity, set(data.params), set(data.metrics))

    def _create(self, key: str, when: int) -> MLflowRun:
        tags = {**self._identity(key), OUTCOME: "running"}
        run = self._client.create_run(self._experiment_id, when, tags, key or self._sweep)
        return MLflowRun(run.info.run_id, when, running=True)

    def _steps(self, run: MLflowRun, metric: str) -> set[int]:
        """The steps that the run has of a metric; asked of the store once, and only for an earlier process's."""
        if metric not in run.steps:
            # Load samples never repeat a step, and a long sweep has very many.
            ask = metric in run.history and not metric.startswith("system/")
            history = self._client.get_metric_history(run.id, metric) if ask else []
            run.steps[metric] = {point.step for point in history}
        return run.steps[metric]


def connect(uri: str, experiment: str) -> Any:
    """A client whose store is known to answer; SQLite tables are created on first use, by one process at a time.

    Raises: TrackingError if the database cannot be opened, or is locked for more than `LOCK_TIMEOUT_S`.
    """
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    database = database_of(uri)
    if database:
        _check_database(database)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints a traceback at each retry of what the queue reports in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with _environment(PROBE), locked(database) if database else nullcontext():
        client = MlflowClient(uri)
        client.get_experiment_by_name(experiment)
    # The queue waits and repeats; MLflow's own retries would sleep through the server's return and could
    # create a run twice.
    os.environ.setdefault(MAX_RETRIES, "0")
    return client


def find_experiment(client: Any, uri: str, name: str) -> str:
    """Return the experiment's id. A new one in SQLite keeps its artifacts beside the database file.

    Args:
        client: of MLflow.
        uri: of the store.
        name: of the experiment.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        database = database_of(uri)
        location = (database.parent / FILES).as_uri() if database else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except Exception:
            # Another sweep may have created it meanwhile.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise TrackingError(
            f"experiment {name!r} was deleted in MLflow; `MLFLOW_TRACKING_URI={shlex.quote(redact(uri))} {restore}` "
            "brings it back"
        )
    if moved := _moved_away(database_of(uri), found.artifact_location):
        log.warning("%s", moved)
    return found.experiment_id


def _moved_away(database: Path | None, location: str) -> str:
    """Say so where files of runs are kept in another folder than the database's: somebody moved the database.

    Args:
        database: the SQLite file, if there is one.
        location: of the files, as MLflow has stored it.
    """
    parts = urlsplit(location)
    if database is None or parts.scheme not in ("", "file"):
        return ""
    kept = Path(unquote(parts.path))
    if kept.name != FILES or kept.parent == database.parent:
        return ""
    return (
        f"MLflow keeps the files of runs in {kept}, since {database} was made there; files that moved with it are not "
        "found. A copy of the sweep for the new place: `raydistill track SWEEP --tracking-uri NEW`"
    )


def database_of(uri: str) -> Path | None:
    """The absolute path of a SQLite file, if the address is of one."""
    prefix, _, rest = uri.partition(":///")
    path = rest.partition("?")[0]
    return Path(path).resolve() if prefix == "sqlite" and path and path != ":memory:" else None


def _check_database(path: Path) -> None:
    """MLflow would try for minutes to open a file that cannot be opened; fail at once."""
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise TrackingError(f"{path}: {error}") from error


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Alone with a SQLite file, by a lock file beside it, which stays.

    Raises: TrackingError if the lock cannot be had.
    """
    path = database.with_name(f"{database.name}.lock")
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(path, LOCK_TIMEOUT_S))
        except LockHeldError as error:
            raise TrackingError(str(error)) from error
        except OSError as error:
            raise TrackingError(f"{path}: {error.strerror}") from error
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(redact_values(value))[:PARAM_LENGTH] for name, value in params.items()}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return json.dumps(value, default=str) if isinstance(value, (list, tuple, dict)) else str(value)


def now() -> int:
    return int(time.time() * 1000)

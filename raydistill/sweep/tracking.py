"""MLflow beside the sweep, never in its way: the sweep is a parent run, each trial a child run.

One thread sends everything, in order for each run; what the server did not take is kept and sent again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from raydistill.sweep.names import check_name

log = logging.getLogger(__name__)

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
STATUS = {"finished": "FINISHED", "stopped_early": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
PARENT = ""
SWEEP, TRIAL, ROLE = "raydistill.sweep", "raydistill.trial", "raydistill.role"
OUTCOME, MESSAGE = "raydistill.outcome", "raydistill.message"
METRICS_PER_CALL, PARAMS_PER_CALL, PARAM_LENGTH, TAG_LENGTH = 1000, 100, 6000, 5000
FIRST_PAUSE, LONGEST_PAUSE, SECONDS_BETWEEN_WARNINGS = 0.5, 10.0, 60.0
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PROBE = {RETRIES: "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


class TrackingError(RuntimeError):
    """The tracking store cannot be used; the message names it and the cause."""


class _Point(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


@dataclass(eq=False)
class _Event:
    """Metrics to log, or else an action. Events of one lane are delivered in order."""

    lane: str
    points: tuple[_Point, ...] = ()
    action: Callable[[], None] | None = None
    alone: bool = False


class Tracker:
    """One sweep in MLflow. After construction no method waits for the server, but `flush` and `close`.

    The experiment and the parent run, named `sweep`, are found again or created. `params` are logged by
    dotted path; `system_metrics` samples this machine's load onto the parent run.

    Raises: ValueError for an unsafe name; TrackingError if the store cannot be used, within 10 s if an http
    server does not answer.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        sweep: str,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        system_metrics: bool = True,
    ) -> None:
        check_name("experiment", experiment)
        check_name("sweep", sweep)
        try:
            client = _connect(uri, experiment)
            self.experiment_id = _find_experiment(client, uri, experiment)
            self._runs = _Runs(client, self.experiment_id, sweep)
            self._runs.start(PARENT, _texts(params), dict(tags or {}), _now())
        except Exception as error:
            cause = " ".join(str(error).split())[:400]
            raise TrackingError(_without_password(f"MLflow at {uri} cannot be used: {cause}")) from error
        self.parent_id = self._runs.run(PARENT).id
        self._open: set[str] = set()
        self._outbox = _Outbox(self._runs.log)
        self._ended = threading.Event()
        if system_metrics:
            self._start_sampling(uri)

    def start_trial(self, key: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> None:
        """Create the child run `key`, or go on with it; parameters that it already has are left alone.

        Raises: ValueError for an unsafe key.
        """
        self._open.add(check_name("trial", key))
        self._act(key, partial(self._runs.start, key, _texts(params), dict(tags or {}), _now()))

    def log(self, key: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep for delivery. Non-finite values, and points that the run already has, are left out."""
        now = _now()
        points = [_Point(k, float(v), now, step) for k, v in metrics.items() if math.isfinite(v)]
        for start in range(0, len(points), METRICS_PER_CALL):
            self._outbox.put(_Event(key, points=tuple(points[start : start + METRICS_PER_CALL])))

    def artifact(self, key: str | None, path: Path, folder: str = "") -> None:
        """Upload the file or folder at `path` to the trial's run (none: the sweep's), into `folder`.

        It must stay on disk until delivered. Uploads have a lane of their own: they hold up no metrics.
        """
        run = PARENT if key is None else key
        self._outbox.put(
            _Event(f"{run}/artifacts", action=partial(self._runs.artifact, run, Path(path).absolute(), folder))
        )

    def end_trial(self, key: str, outcome: Outcome, message: str = "") -> None:
        """Close the trial's run; its tags say how it ended. Raises ValueError for an unknown outcome."""
        if outcome not in STATUS:
            raise ValueError(f"outcome {outcome!r} of trial {key!r} is unknown; valid: {', '.join(STATUS)}")
        self._open.discard(key)
        self._act(key, partial(self._runs.end, key, outcome, message, _now()))

    def log_parent(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """As `log`, on the sweep's run."""
        self.log(PARENT, step, metrics)

    def tag_parent(self, tags: Mapping[str, str]) -> None:
        """Set tags of the sweep's run."""
        self._act(PARENT, partial(self._runs.tag, PARENT, dict(tags)))

    def flush(self, timeout: float = 60) -> bool:
        """Wait up to `timeout` seconds until all is delivered; whether it is."""
        return self._outbox.wait(timeout)

    def close(self, outcome: str, timeout: float = 60) -> int:
        """End the sweep's run, and trials still open as interrupted; deliver for up to `timeout` seconds.

        Returns the number of undelivered events. Never raises; Ctrl-C ends the wait.
        """
        if not self._ended.is_set():
            self._ended.set()
            for key in sorted(self._open):
                self.end_trial(key, "interrupted")
            self._act(PARENT, partial(self._runs.end, PARENT, outcome, "", _now()))
            with suppress(KeyboardInterrupt):
                self.flush(timeout)
        return self._outbox.stop()

    def _act(self, lane: str, action: Callable[[], None]) -> None:
        self._outbox.put(_Event(lane, action=action))

    def _start_sampling(self, uri: str) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(self.parent_id, sampling_interval=10, tracking_uri=uri)
        except Exception as error:
            log.warning("system metrics are not tracked: %s", error)
            return
        threading.Thread(target=self._sample, args=(monitor,), name="system-metrics", daemon=True).start()

    def _sample(self, monitor: Any) -> None:
        """MLflow's own loop gives up when the server is away, so its readings go through the outbox instead."""
        start = self._runs.run(PARENT).start_time
        while not self._ended.wait(monitor.sampling_interval):
            try:
                monitor.collect_metrics()
                readings = {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
                for part in monitor.monitors:
                    part.clear_metrics()
            except Exception as error:
                log.warning("system metrics are no longer tracked: %s", error)
                return
            self.log_parent(readings, step=int((_now() - start) / 1000 / monitor.sampling_interval))


class _Outbox:
    """Delivers events from one thread. They stay in the queue until the store took or refused them."""

    def __init__(self, send: Callable[[str, list[_Point]], None]) -> None:
        self._send = send
        self._queue: list[_Event] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._warned = -math.inf
        threading.Thread(target=self._run, name="tracking", daemon=True).start()

    def put(self, event: _Event) -> None:
        with self._changed:
            self._queue.append(event)
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, timeout)

    def stop(self) -> int:
        """End the thread after the call that it is in; how many events are left."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
            return len(self._queue)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while batch := self._next():
            try:
                self._deliver(batch)
            except Exception as error:
                if _transient(error):
                    self._postpone(batch[0].lane, error)
                    self._stopped.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                self._refused(batch, error)
            else:
                self._remove(batch)
            pause = FIRST_PAUSE

    def _next(self) -> list[_Event]:
        """The first event, with the metrics that follow it in its lane if it is metrics; empty when stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped.is_set())
            if self._stopped.is_set():
                return []
            head = self._queue[0]
            batch, room = [head], METRICS_PER_CALL - len(head.points)
            if head.points and not head.alone:
                for event in self._queue[1:]:
                    if event.lane != head.lane:
                        continue
                    room -= len(event.points)
                    if event.action or event.alone or room < 0:
                        break
                    batch.append(event)
            return batch

    def _deliver(self, batch: list[_Event]) -> None:
        if batch[0].action:
            batch[0].action()
        else:
            self._send(batch[0].lane, [point for event in batch for point in event.points])

    def _remove(self, batch: list[_Event]) -> None:
        with self._changed:
            done = set(batch)
            self._queue = [event for event in self._queue if event not in done]
            self._changed.notify_all()

    def _postpone(self, lane: str, error: Exception) -> None:
        """Let the other runs pass, since the fault may be this run's alone."""
        with self._changed:
            self._queue.sort(key=lambda event: event.lane == lane)
            waiting = len(self._queue)
        if time.monotonic() - self._warned > SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            log.warning("MLflow does not answer, %d events wait: %s", waiting, _brief(error))

    def _refused(self, batch: list[_Event], error: Exception) -> None:
        """Drop what can never succeed; of a refused batch send each event alone, so that only bad ones go."""
        if len(batch) > 1:
            for event in batch:
                event.alone = True
            return
        log.warning("MLflow refused an event of %s, it is dropped: %s", batch[0].lane or "the sweep", _brief(error))
        self._remove(batch)


@dataclass
class _Run:
    id: str
    start_time: int
    running: bool
    params: set[str] = field(default_factory=set)
    history: set[str] = field(default_factory=set)
    steps: dict[str, set[int]] = field(default_factory=dict)


class _Runs:
    """The runs of one sweep. Every operation may be repeated after a failure half-way."""

    def __init__(self, client: Any, experiment_id: str, sweep: str) -> None:
        self._client, self._experiment_id, self._sweep = client, experiment_id, sweep
        self._known: dict[str, _Run] = {}

    def run(self, key: str, when: int | None = None) -> _Run:
        """The run of a trial (or of the sweep), found again by its tags, else created."""
        if key not in self._known:
            self._known[key] = self._find(key) or self._create(key, when or _now())
        return self._known[key]

    def start(self, key: str, params: dict[str, str], tags: dict[str, str], when: int) -> None:
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

    def log(self, key: str, points: list[_Point]) -> None:
        from mlflow.entities import Metric

        run = self.run(key)
        new: dict[tuple[str, int], _Point] = {}
        for point in points:
            if point.step not in self._steps(run, point.key):
                new.setdefault((point.key, point.step), point)
        self._client.log_batch(run.id, metrics=[Metric(*point) for point in new.values()])
        for name, step in new:
            run.steps[name].add(step)

    def artifact(self, key: str, path: Path, folder: str) -> None:
        if not path.exists():
            raise FileNotFoundError(f"artifact {path} is gone")
        upload = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        upload(self.run(key).id, str(path), folder or None)

    def end(self, key: str, outcome: str, message: str, when: int) -> None:
        self.tag(key, {OUTCOME: outcome, MESSAGE: message})
        run = self.run(key)
        self._client.set_terminated(run.id, STATUS.get(outcome, "FAILED"), when)
        run.running = False

    def _identity(self, key: str) -> dict[str, str]:
        if key == PARENT:
            return {SWEEP: self._sweep, ROLE: "sweep"}
        return {SWEEP: self._sweep, TRIAL: key, "mlflow.parentRunId": self.run(PARENT).id}

    def _find(self, key: str) -> _Run | None:
        own = f"tags.`{ROLE}` = 'sweep'" if key == PARENT else f"tags.`{TRIAL}` = '{check_name('trial', key)}'"
        query = f"tags.`{SWEEP}` = '{self._sweep}' AND {own}"
        found = self._client.search_runs([self._experiment_id], query, max_results=1, order_by=["start_time ASC"])
        if not found:
            return None
        info, data = found[0].info, found[0].data
        return _Run(info.run_id, info.start_time, info.status == "RUNNING", set(data.params), set(data.metrics))

    def _create(self, key: str, when: int) -> _Run:
        tags = {**self._identity(key), OUTCOME: "running"}
        run = self._client.create_run(self._experiment_id, when, tags, key or self._sweep)
        return _Run(run.info.run_id, when, running=True)

    def _steps(self, run: _Run, metric: str) -> set[int]:
        """The steps that the run has of a metric; asked of the store once, and only for an earlier process's."""
        if metric not in run.steps:
            # Load samples never repeat a step, and a long sweep has very many.
            ask = metric in run.history and not metric.startswith("system/")
            history = self._client.get_metric_history(run.id, metric) if ask else []
            run.steps[metric] = {point.step for point in history}
        return run.steps[metric]


def _connect(uri: str, experiment: str) -> Any:
    """A client whose store is known to answer; SQLite tables are created on first use."""
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if database := _database(uri):
        _check_database(database)
    from mlflow import MlflowClient

    for name, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    # It prints a traceback at each retry of what the outbox reports in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with _environment(PROBE):
        client = MlflowClient(uri)
        client.get_experiment_by_name(experiment)
    # The outbox waits and repeats; MLflow's own retries would sleep through the server's return and could
    # create a run twice.
    os.environ.setdefault(RETRIES, "0")
    return client


def _find_experiment(client: Any, uri: str, name: str) -> str:
    """The experiment's id. A new one in SQLite keeps its artifacts beside the database file."""
    found = client.get_experiment_by_name(name)
    if found is None:
        database = _database(uri)
        location = (database.parent / "mlartifacts").as_uri() if database else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except Exception:
            # Another sweep may have created it meanwhile.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} is deleted; restore it, or choose another name")
    return found.experiment_id


def _database(uri: str) -> Path | None:
    """The absolute path of a SQLite file, if the address is of one."""
    prefix, _, rest = uri.partition(":///")
    path = rest.partition("?")[0]
    return Path(path).resolve() if prefix == "sqlite" and path and path != ":memory:" else None


def _check_database(path: Path) -> None:
    """MLflow would try for minutes to open a file that cannot be opened; fail at once."""
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA schema_version")
        connection.close()
    except sqlite3.Error as error:
        raise TrackingError(f"{path}: {error}") from error


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _transient(error: Exception) -> bool:
    """Whether sending again can succeed: no connection, the server's own fault, a busy database, a full disk."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in (408, 429, 500, 502, 503, 504) or "database is locked" in str(error)
    permanent = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, permanent)


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(value)[:PARAM_LENGTH] for name, value in params.items()}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return json.dumps(value, default=str) if isinstance(value, (list, tuple, dict)) else str(value)


def _brief(error: Exception) -> str:
    return _without_password(" ".join(f"{type(error).__name__}: {error}".split())[:300])


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _now() -> int:
    return int(time.time() * 1000)

"""MLflow beside the sweep, never in its way: the sweep is a parent run, each trial a child run.

One thread sends everything, in order for each run; what the server did not take is kept and sent again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from raydistill.records.names import check_name
from raydistill.redaction import redact, redact_values
from raydistill.storage import StoragePath
from raydistill.tracking.client import (
    ID,
    PARENT,
    STATUS,
    MLflowRuns,
    TrackingError,
    connect,
    find_experiment,
    now,
    texts,
)
from raydistill.tracking.delivery_queue import METRICS_PER_CALL, DeliveryQueue, Event, Point, one_line
from raydistill.tracking.loggers.base import (
    SWEEP,
    FinalTable,
    LoggerEvent,
    TrialEnd,
    TrialMetrics,
    TrialScores,
    TrialStart,
)
from raydistill.tracking.loggers.feed import LoggerFeed

log = logging.getLogger(__name__)

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
PATIENCE_S = 60.0  # that all waiting for room in the queues of loggers may take together


class Tracker:
    """One sweep in MLflow. After construction no method waits for the server, but `flush` and `close`.

    The experiment and the parent run, named `sweep`, are found again or created. `params` are logged by
    dotted path; `system_metrics` samples this machine's load onto the parent run. Moments (`when`) are in
    milliseconds since 1970, by default now.

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
        when: int | None = None,
    ) -> None:
        check_name("experiment", experiment)
        check_name("sweep", sweep)
        try:
            client = connect(uri, experiment)
            self.experiment_id = find_experiment(client, uri, experiment)
            self._runs = MLflowRuns(client, self.experiment_id, sweep)
            known, own = self._runs.run(PARENT, when).identity, (tags or {}).get(ID, "")
            if known and own and known != own:
                raise TrackingError(f"it holds another sweep called {sweep!r}; choose another name")
            self._runs.start(PARENT, texts(params), dict(tags or {}), when or now())
        except Exception as error:
            cause = redact(" ".join(str(error).split()))[:400]
            hint = "give --tracking-uri sqlite:///mlflow.db or http://HOST:PORT"
            raise TrackingError(f"MLflow at {redact(uri)} cannot be used: {cause}; {hint}") from error
        self.parent_id = self._runs.run(PARENT).id
        self._open: set[str] = set()
        self._loggers: tuple[LoggerFeed, ...] = ()
        self._patience = PATIENCE_S
        self._start = TrialStart(SWEEP, redact_values(params), redact_values(tags or {}), when or now())
        self._queue = DeliveryQueue(self._runs.log)
        self._ended = threading.Event()
        if system_metrics:
            self._start_sampling(uri)

    # docs/architecture.md#loggers-beside-mlflow
    def forward_to(self, loggers: Sequence[LoggerFeed]) -> None:
        """Send the events from now on to loggers, too, beginning with the sweep's start."""
        self._loggers = tuple(loggers)
        self._forward(self._start)

    def wait_for_loggers(self) -> None:
        """Wait until loggers have room for an event, in all no longer than `PATIENCE_S`."""
        for logger in self._loggers:
            began = time.monotonic()
            logger.wait_for_room(max(0.0, self._patience))
            self._patience -= time.monotonic() - began

    def start_trial(
        self, key: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, when: int | None = None
    ) -> None:
        """Create the child run `key`, or go on with it; parameters that it already has are left alone.

        Args:
            key: the trial.
            params, tags: of the run.
            when: milliseconds since 1970; None: now.

        Raises:
            ValueError: an unsafe key.
        """
        self._open.add(check_name("trial", key))
        self._act(key, partial(self._runs.start, key, texts(params), dict(tags or {}), when or now()))
        self._forward(TrialStart(key, redact_values(params), redact_values(tags or {}), when or now()))

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run."""
        self._act(key, partial(self._runs.tag, key, dict(tags)))

    def log(self, key: str, step: int, metrics: Mapping[str, float], when: int | None = None) -> None:
        """Queue metrics for delivery. Non-finite values, and points that the run already has, are left out.

        Args:
            key: the trial.
            step: the epoch.
            metrics: its numbers.
            when: milliseconds since 1970; None: now.
        """
        self._log(key, step, metrics, when)
        self._forward(TrialMetrics(key, step, _finite(metrics), when or now()))

    def score(
        self, key: str, step: int, scores: Mapping[str, float], new: Mapping[str, float], when: int | None = None
    ) -> None:
        """Queue the final scores of a trial for delivery.

        Args:
            key: the trial.
            step: the epoch of its checkpoint.
            scores: its numbers.
            new: those that no epoch had.
            when: milliseconds since 1970; None: now.
        """
        self._log(key, step, scores, when)
        self._forward(TrialScores(key, step, _finite(new), when or now()))

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """Pass the table at the end to loggers; MLflow has it as a file."""
        self._forward(FinalTable(header, rows))

    def _log(self, key: str, step: int, metrics: Mapping[str, float], when: int | None) -> None:
        """Queue metrics for MLflow.

        Args:
            key: the trial.
            step: the epoch.
            metrics: its numbers.
            when: milliseconds since 1970; None: now.
        """
        moment = when or now()
        # MLflow's pages open with the metric that came first.
        ordered = sorted(_finite(metrics).items(), key=lambda item: not item[0].startswith("val_"))
        points = [Point(k, v, moment, step) for k, v in ordered]
        for start in range(0, len(points), METRICS_PER_CALL):
            self._queue.enqueue(Event(key, points=tuple(points[start : start + METRICS_PER_CALL])))

    def artifact(self, key: str | None, path: StoragePath, folder: str = "") -> None:
        """Queue a file or folder for upload. Uploads have a run key of their own: they hold up no metrics.

        Args:
            key: the trial; None: the sweep's run.
            path: must stay there until delivered.
            folder: where it goes within the run.
        """
        run = PARENT if key is None else key
        self._queue.enqueue(
            Event(f"{run}/artifacts", action=partial(self._runs.artifact, run, path.absolute(), folder))
        )

    def end_trial(self, key: str, outcome: Outcome, message: str = "", when: int | None = None) -> None:
        """Close the trial's run; its tags say how it ended.

        Args:
            key: the trial.
            outcome: how it ended.
            message: the cause.
            when: milliseconds since 1970; None: now.

        Raises:
            ValueError: an unknown outcome.
        """
        if outcome not in STATUS:
            raise ValueError(f"outcome {outcome!r} of trial {key!r} is unknown; valid: {', '.join(STATUS)}")
        self._open.discard(key)
        self._act(key, partial(self._runs.end, key, outcome, message, when or now()))
        self._forward(TrialEnd(key, outcome, redact(message), when or now()))

    def log_parent(self, metrics: Mapping[str, float], step: int = 0, when: int | None = None) -> None:
        """Queue metrics of the sweep's own run for delivery.

        Args:
            metrics: the numbers.
            step: their step.
            when: milliseconds since 1970; None: now.
        """
        self.log(PARENT, step, metrics, when)

    def tag_parent(self, tags: Mapping[str, str]) -> None:
        """Set tags of the sweep's run."""
        self.tag(PARENT, tags)

    def flush(self, timeout: float = 60) -> bool:
        """Wait up to `timeout` seconds until all is delivered; whether it is."""
        return self._queue.wait(timeout)

    def close(self, outcome: str, timeout: float = 60, when: int | None = None) -> int:
        """End the sweep's run, and trials still open as interrupted. Never raises; Ctrl-C ends the wait.

        Args:
            outcome: of the sweep.
            timeout: seconds for delivery.
            when: milliseconds since 1970; None: now.

        Returns:
            The number of undelivered events.
        """
        if not self._ended.is_set():
            self._ended.set()
            for key in sorted(self._open):
                self.end_trial(key, "interrupted", when=when)
            self._act(PARENT, partial(self._runs.end, PARENT, outcome, "", when or now()))
            self._forward(TrialEnd(SWEEP, outcome, "", when or now()))
            with suppress(KeyboardInterrupt):
                self.flush(timeout)
                deadline = time.monotonic() + timeout
                for logger in self._loggers:
                    logger.close(max(0.0, deadline - time.monotonic()))
            for logger in self._loggers:  # Ctrl-C may have ended the wait before
                logger.close(0)
        return self._queue.stop()

    def _act(self, run_key: str, action: Callable[[], None]) -> None:
        self._queue.enqueue(Event(run_key, action=action))

    def _forward(self, event: LoggerEvent) -> None:
        for logger in self._loggers:
            logger.send(event)

    def _start_sampling(self, uri: str) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(self.parent_id, sampling_interval=10, tracking_uri=uri)
        except Exception as error:
            log.warning("system metrics are not tracked: %s", one_line(error))
            return
        threading.Thread(target=self._sample, args=(monitor,), name="system-metrics", daemon=True).start()

    def _sample(self, monitor: Any) -> None:
        """MLflow's own loop gives up when the server is away, so its readings go through the queue instead."""
        start = self._runs.run(PARENT).start_time
        while not self._ended.wait(monitor.sampling_interval):
            try:
                monitor.collect_metrics()
                readings = {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
                for part in monitor.monitors:
                    part.clear_metrics()
            except Exception as error:
                log.warning("system metrics are no longer tracked: %s", one_line(error))
                return
            self._log(PARENT, int((now() - start) / 1000 / monitor.sampling_interval), readings, None)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

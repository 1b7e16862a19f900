"""Events on their way to MLflow: sent by one thread, in order for each run, kept until they are taken."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from raydistill.redaction import redact

log = logging.getLogger(__name__)

METRICS_PER_CALL = 1000
FIRST_PAUSE, LONGEST_PAUSE, SECONDS_BETWEEN_WARNINGS = 0.5, 10.0, 60.0


class Point(NamedTuple):
    """Point of a metric: its name, value, time in milliseconds since 1970, and step."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(eq=False)
class Event:
    """Metrics to log, or else an action. Events of one `run_key` are delivered in order."""

    run_key: str
    points: tuple[Point, ...] = ()
    action: Callable[[], None] | None = None
    isolated: bool = False


class DeliveryQueue:
    """Delivers events from one thread. They stay in the queue until the store took or refused them."""

    def __init__(self, send: Callable[[str, list[Point]], None]) -> None:
        self._send = send
        self._queue: list[Event] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._warned = -math.inf
        threading.Thread(target=self._run, name="tracking", daemon=True).start()

    def enqueue(self, event: Event) -> None:
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
                if transient(error):
                    self._postpone(batch[0].run_key, error)
                    self._stopped.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                self._refused(batch, error)
            else:
                self._remove(batch)
            pause = FIRST_PAUSE

    def _next(self) -> list[Event]:
        """Return the first event; metrics bring those that follow for the same `run_key`. Empty when stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped.is_set())
            if self._stopped.is_set():
                return []
            head = self._queue[0]
            batch, room = [head], METRICS_PER_CALL - len(head.points)
            if head.points and not head.isolated:
                for event in self._queue[1:]:
                    if event.run_key != head.run_key:
                        continue
                    room -= len(event.points)
                    if event.action or event.isolated or room < 0:
                        break
                    batch.append(event)
            return batch

    def _deliver(self, batch: list[Event]) -> None:
        if batch[0].action:
            batch[0].action()
        else:
            self._send(batch[0].run_key, [point for event in batch for point in event.points])

    def _remove(self, batch: list[Event]) -> None:
        with self._changed:
            done = set(batch)
            self._queue = [event for event in self._queue if event not in done]
            self._changed.notify_all()

    def _postpone(self, run_key: str, error: Exception) -> None:
        """Let the other runs pass, since the fault may be this run's alone."""
        with self._changed:
            self._queue.sort(key=lambda event: event.run_key == run_key)
            waiting = len(self._queue)
        if time.monotonic() - self._warned > SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            log.warning("MLflow does not answer, %d events wait: %s", waiting, one_line(error))

    def _refused(self, batch: list[Event], error: Exception) -> None:
        """Drop what can never succeed; of a refused batch send each event alone, so that only bad ones go."""
        if len(batch) > 1:
            for event in batch:
                event.isolated = True
            return
        log.warning(
            "MLflow refused an event of %s, it is dropped: %s", batch[0].run_key or "the sweep", one_line(error)
        )
        self._remove(batch)


def transient(error: Exception) -> bool:
    """Return whether sending again can succeed: no connection, the server's own fault, a busy database, a full disk."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in (408, 429, 500, 502, 503, 504) or "database is locked" in str(error)
    permanent = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, permanent)


def one_line(error: Exception) -> str:
    """Return the error without secrets; shortened last, since half an address hides nothing."""
    return redact(" ".join(f"{type(error).__name__}: {error}".split()))[:300]

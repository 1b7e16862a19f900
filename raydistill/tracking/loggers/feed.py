"""A thread that feeds a logger, so that one that fails or hangs costs the sweep nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress

from raydistill.redaction import redact_environment
from raydistill.tracking.loggers.base import ExperimentLogger, LoggerEvent

log = logging.getLogger(__name__)

MOST_WAITING = 50_000  # events; a logger that is further behind is left alone


class LoggerFeed:
    """Passes events to a logger in their order, from a thread of its own.

    A logger that raises, that falls too far behind, or that does not end in time is left alone: the cause is said once,
    without secrets, and it gets no more events.
    """

    def __init__(self, name: str, logger: ExperimentLogger, most_waiting: int = MOST_WAITING) -> None:
        self.name = name
        self._logger = logger
        self._waiting: queue.Queue[LoggerEvent | None] = queue.Queue(most_waiting)
        self._given_up = threading.Event()
        self._saying = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"logger-{name}", daemon=True)
        self._thread.start()

    @property
    def given_up(self) -> bool:
        """Say whether the logger is left alone."""
        return self._given_up.is_set()

    def send(self, event: LoggerEvent) -> None:
        """Pass on an event. Never waits, never raises."""
        if not self._given_up.is_set():
            try:
                self._waiting.put_nowait(event)
            except queue.Full:
                self._give_up(f"{self._waiting.maxsize} events wait for it")

    def wait_for_room(self, timeout: float) -> None:
        """Wait at most so many seconds until an event has room; for a resume, which sends much at once."""
        with self._waiting.not_full:
            self._waiting.not_full.wait_for(
                lambda: self._given_up.is_set() or len(self._waiting.queue) < self._waiting.maxsize, timeout
            )

    def close(self, timeout: float) -> None:
        """Give the logger so many seconds for what it has not taken yet, and end the thread."""
        if not self._given_up.is_set():
            deadline = time.monotonic() + timeout
            with suppress(queue.Full):
                self._waiting.put(None, timeout=timeout)
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._give_up(f"it has not ended within {timeout:.0f} s")

    def _run(self) -> None:
        try:
            while (event := self._waiting.get()) is not None and not self._given_up.is_set():
                self._logger.receive(event)
        except BaseException as error:  # some libraries raise SystemExit or KeyboardInterrupt of their own
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, why: str) -> None:
        with self._saying:
            if self._given_up.is_set():
                return
            self._given_up.set()
        # Shortened last, since half an address hides nothing.
        cause = redact_environment(" ".join(why.split()))[:300]
        log.warning("%s is left alone, the sweep and MLflow go on: %s", self.name, cause)
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        with self._waiting.not_full:
            self._waiting.not_full.notify_all()
        with suppress(Exception):
            self._logger.abandon()

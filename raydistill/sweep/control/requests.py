"""Files of requests to a running sweep and of its answers. Free of torch and Ray.

Each request is a file of its own in the sweep's folder, so two of them never overwrite each other. The driver answers
it with another file and removes it. What it has accepted and not yet done stays as a third file, for a resume.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from raydistill.config import ConfigError
from raydistill.records.layout import CONTROL_FOLDER, RUNNING_FILE
from raydistill.storage import Remote, StoragePath
from raydistill.training.checkpoint_files import write_atomically

READ_EVERY_S, READ_REMOTE_EVERY_S = 1.0, 5.0  # listing an object store costs money
ANSWER_LIMIT_S = 60.0
REQUEST, ACCEPTED, ANSWER = ".request.json", ".accepted.json", ".answer.json"
Action = Literal["stop", "add"]


# docs/architecture.md#requests-to-a-running-sweep
@dataclass(frozen=True)
class ControlRequest:
    """Request to a running sweep.

    Attributes:
        id: of its files; later requests have later ones.
        action: `stop` or `add`.
        trials: to stop; none: the search that runs.
        now: whether the whole sweep ends, so that it can be resumed.
        settings: to try next, by path.
    """

    id: str
    action: Action
    trials: tuple[str, ...] = ()
    now: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ControlAnswer:
    """Answer of a sweep to a request, in a line."""

    obeyed: bool
    text: str


def ask(
    directory: StoragePath,
    action: Action,
    *,
    trials: tuple[str, ...] = (),
    now: bool = False,
    settings: Mapping[str, Any] | None = None,
    limit_s: float = ANSWER_LIMIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Send a request to a running sweep and return its answer.

    Args:
        directory: of the sweep.
        action: `stop` or `add`.
        trials: to stop.
        now: whether the whole sweep ends.
        settings: to try next, by path.
        limit_s: how long to wait for the answer. A request without one is taken back.
        sleep: waits.

    Raises:
        ConfigError: the sweep does not run, does not answer, or refuses; the message says why.
    """
    _check_running(directory)
    request = ControlRequest(
        f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", action, tuple(trials), now, dict(settings or {})
    )
    folder = directory / CONTROL_FOLDER
    path = folder / f"{request.id}{REQUEST}"
    write_atomically(path, json.dumps(asdict(request)).encode())
    pause_s = READ_REMOTE_EVERY_S / 2 if isinstance(directory, Remote) else READ_EVERY_S / 4
    end = time.monotonic() + limit_s
    while (answer := _read_answer(folder / f"{request.id}{ANSWER}")) is None and time.monotonic() < end:
        sleep(pause_s)
    if answer is None:
        path.unlink(missing_ok=True)
        answer = _read_answer(folder / f"{request.id}{ANSWER}")  # it may have come in this moment
    if answer is None:
        raise ConfigError(
            f"sweep {directory.name!r} has not answered for {limit_s:g} s, and the request is taken back; its process "
            f"({_whose(directory)}) is busy or gone. It answers while trials train"
        )
    (folder / f"{request.id}{ANSWER}").unlink(missing_ok=True)
    if not answer.obeyed:
        raise ConfigError(f"sweep {directory.name!r}: {answer.text}")
    return answer.text


class Inbox:
    """The requests to a sweep, as its driver sees them.

    Requests that nobody has answered before the sweep began are removed: whoever sent them has been told so. What was
    accepted before a resume is still to be done.

    Args:
        directory: of the sweep.
        clock: seconds that never fall.
    """

    def __init__(self, directory: StoragePath, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = directory / CONTROL_FOLDER, clock
        self._every = READ_REMOTE_EVERY_S if isinstance(directory, Remote) else READ_EVERY_S
        self._read_at = -self._every + clock()
        self._folder.mkdir(parents=True, exist_ok=True)
        for ending in (REQUEST, ANSWER):
            for path in self._folder.glob(f"*{ending}"):
                path.unlink(missing_ok=True)
        self.accepted = {request.id: request for _, request in self._read(ACCEPTED)}

    def open(self) -> None:
        """Take requests from now on."""
        write_atomically(self._folder / RUNNING_FILE, json.dumps({"pid": os.getpid(), "place": _place()}).encode())

    def close(self, why: str) -> None:
        """Take no more requests; `why` is the answer to those that are there."""
        (self._folder / RUNNING_FILE).unlink(missing_ok=True)
        for path, request in self._read(REQUEST):
            self._answer(path, request, ControlAnswer(False, why))

    def new(self) -> Iterator[ControlRequest]:
        """Yield the requests that are there, oldest first; each must be answered. Looks only now and then."""
        if self._clock() - self._read_at < self._every:
            return
        self._read_at = self._clock()
        with suppress(OSError):  # a storage that fails now is read again later
            for path, request in self._read(REQUEST):
                if request.id in self.accepted:  # ended in this moment
                    path.unlink(missing_ok=True)
                else:
                    yield request

    def accept(self, request: ControlRequest) -> None:
        """Keep a request until it is `done`, also over a resume."""
        write_atomically(self._folder / f"{request.id}{ACCEPTED}", json.dumps(asdict(request)).encode())
        self.accepted[request.id] = request

    def answer(self, request: ControlRequest, answer: ControlAnswer) -> None:
        """Answer a request, which is removed."""
        self._answer(self._folder / f"{request.id}{REQUEST}", request, answer)

    def done(self, request: ControlRequest) -> None:
        """Forget an accepted request."""
        self.accepted.pop(request.id, None)
        (self._folder / f"{request.id}{ACCEPTED}").unlink(missing_ok=True)

    def _answer(self, path: StoragePath, request: ControlRequest, answer: ControlAnswer) -> None:
        write_atomically(self._folder / f"{request.id}{ANSWER}", json.dumps(asdict(answer)).encode())
        path.unlink(missing_ok=True)

    def _read(self, ending: str) -> Iterator[tuple[StoragePath, ControlRequest]]:
        """Yield the files with an ending, oldest first; one that is no request, or was taken back, is passed over."""
        paths: list[StoragePath] = list(self._folder.glob(f"*{ending}"))
        for path in sorted(paths, key=str):
            request = None
            with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
                values = json.loads(path.read_text())
                request = ControlRequest(**{**values, "trials": tuple(values["trials"])})
            if request is not None:
                yield path, request


def _check_running(directory: StoragePath) -> None:
    """Refuse a request to a sweep that does not run. Raises: ConfigError."""
    path = directory / CONTROL_FOLDER / RUNNING_FILE
    running = _read_running(path)
    if running is None:
        raise ConfigError(
            f"sweep {directory.name!r} takes no requests: it does not run, or it is scoring its final runs already"
        )
    if running.get("place") == _place() and not psutil.pid_exists(int(running["pid"])):
        raise ConfigError(f"sweep {directory.name!r} does not run: its process {running['pid']} is gone")


def _read_running(path: StoragePath) -> dict[str, Any] | None:
    with suppress(FileNotFoundError, ValueError):
        values = json.loads(path.read_text())
        return values if isinstance(values, dict) and isinstance(values.get("pid"), int) else None
    return None


def _read_answer(path: StoragePath) -> ControlAnswer | None:
    with suppress(FileNotFoundError):
        return ControlAnswer(**json.loads(path.read_text()))
    return None


def _whose(directory: StoragePath) -> str:
    """The process of a sweep, in words."""
    running = _read_running(directory / CONTROL_FOLDER / RUNNING_FILE)
    return f"{running['pid']} on {running['place'][0]}" if running else "unknown"


def _place() -> list[str]:
    """This machine and, where the system has them, the namespace of its process numbers: containers have their own."""
    namespace = Path("/proc/self/ns/pid")
    try:
        return [socket.gethostname(), str(namespace.readlink())]
    except OSError:
        return [socket.gethostname(), ""]

"""Locks between the processes of a machine, or of all machines that share a file system."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raydistill.errors import RaydistillError

log = logging.getLogger(__name__)

NOTICE_S = 60.0  # of waiting, after which a line in the log says for whom


class LockHeldError(RaydistillError, RuntimeError):
    """A lock was not free within the limit; the message names the file and the process that holds it."""


@contextmanager
def hold_lock(path: Path, limit_s: float) -> Iterator[None]:
    """Hold a lock file, which stays there. Whoever waits for it can read in it which process holds it.

    Args:
        path: of the lock file; its folder is made.
        limit_s: how long to wait for another process.

    Raises:
        LockHeldError: when another process held it all the time.
        OSError: when the file cannot be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=min(limit_s, NOTICE_S))
        except Timeout:
            if limit_s <= NOTICE_S:
                raise
            log.warning("waiting for %s, held by %s", path, _holder(path))
            lock.acquire(timeout=limit_s - NOTICE_S)
    except Timeout:
        raise LockHeldError(f"{path}: held by {_holder(path)} for {limit_s:g} s; end it, or wait for it") from None
    # Where a file system has no locks, filelock writes a file of its own, which names its process as well.
    named = not isinstance(lock, SoftFileLock)
    try:
        if named:
            _name(path, f"{os.getpid()}\n{socket.gethostname()}\n")
        yield
    finally:
        if named:
            _name(path, "")
        lock.release()


def _name(path: Path, text: str) -> None:
    with suppress(OSError):  # a full disk
        path.write_text(text)


def _holder(path: Path) -> str:
    """The process that holds a lock, in words."""
    try:
        pid, host, *_ = path.read_text().splitlines()
    except (OSError, ValueError):
        return "another process"
    return f"another process, {pid} on {host},"

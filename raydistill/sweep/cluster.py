"""The Ray cluster that a sweep runs on."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from raydistill.config import ConfigError
from raydistill.sweep.preflight.ray_start import why_no_socket, why_unreachable
from raydistill.sweep.preflight.security import refuse_open_head
from raydistill.tracking.delivery_queue import one_line


class Terminated(KeyboardInterrupt):
    """A signal that ends the sweep, as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def _stopped_in_order() -> Iterator[tuple[list[int], Callable[[], object]]]:
    """Have SIGTERM (Slurm, Kubernetes, spot machines) and SIGHUP (a closed terminal) end what runs inside, once.

    Ray's own handlers, which this replaces, end the process without a word. Yields the signals that have come, since an
    exception that a handler raises is lost where C code has called Python; and what puts the handlers in place again.

    Raises: Terminated.
    """
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told, lambda: None
        return

    def stop(signum: int, _: Any) -> None:
        told.append(signum)
        if len(told) == 1:
            raise Terminated(signum)

    def install() -> dict[signal.Signals, Any]:
        return {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGHUP)}

    handlers = install()
    try:
        yield told, install
    except KeyboardInterrupt:  # Tune raises one of its own
        if told:
            raise Terminated(told[0]) from None
        raise
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def check_ray(address: str | None) -> None:
    """Refuse what Ray would wait for without an end, or report in many lines.

    Raises: ConfigError that says how to fix it.
    """
    for reason, fix in (why_unreachable(address), ("", "") if address else why_no_socket()):
        if reason:
            raise ConfigError(f"{'RAY_ADDRESS: ' if address else ''}{reason}; {fix}")


@contextmanager
def connected_cluster() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS (a job's own), else start a private one on this machine.

    Raises: ConfigError if Ray cannot be started or reached, or others can reach the cluster's head.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "10")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    already = ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    with _stopped_in_order() as (told, install):
        try:
            dashboard = "" if already else _start_or_connect(address)
            install()  # again: Ray has put its own in their place
            if told:
                raise Terminated(told[0])
            if not already and address:
                refuse_open_head(address, dashboard)
            yield
        finally:
            if not already:
                ray.shutdown()


def _start_or_connect(address: str | None) -> str:
    """Have Ray running, and return the address of its dashboard, if it has one. Raises: ConfigError, Terminated."""
    local: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
    try:
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **local)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"Ray at {address} cannot be used" if address else "Ray cannot be started"
        raise ConfigError(f"{where}: {one_line(error)}; `raydistill doctor` looks for the cause") from error
    except SystemExit:  # by the handler of SIGTERM that Ray has while it starts
        raise Terminated(signal.SIGTERM) from None
    return str(getattr(context, "dashboard_url", ""))

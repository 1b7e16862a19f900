"""The Ray cluster that a sweep runs on."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
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


class _Signals:
    """SIGTERM (Slurm, Kubernetes, spot machines) and SIGHUP (a closed terminal) end what runs, once.

    While `held`, a signal only waits: Ray's processes would be left behind if it were stopped while it starts.
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        self.held = False

    def stop(self, signum: int, _: Any) -> None:
        """Take a signal. Raises: Terminated."""
        self.told.append(signum)
        if len(self.told) == 1 and not self.held:
            raise Terminated(signum)

    def install(self) -> dict[signal.Signals, Any]:
        """Handle the signals, and return the handlers of before. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {signum: signal.signal(signum, self.stop) for signum in (signal.SIGTERM, signal.SIGHUP)}

    def release(self) -> None:
        """Let signals end what runs from now on, also one that has come. Raises: Terminated."""
        self.held = False
        self.install()  # again, should Ray have put its own handler in their place
        if self.told:
            raise Terminated(self.told[0])


@contextmanager
def _stopped_in_order(*, held: bool) -> Iterator[_Signals]:
    """Have signals end what runs inside; Ray's own handlers, which these replace, end the process without a word.

    `held`: not before they are released.

    Raises: Terminated.
    """
    signals = _Signals()
    signals.held = held
    handlers = signals.install()
    try:
        yield signals
    except KeyboardInterrupt:  # Tune raises one of its own
        if signals.told:
            raise Terminated(signals.told[0]) from None
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
    with _stopped_in_order(held=not already) as signals:
        try:
            with _without_rays_handler():
                dashboard = "" if already else _start_or_connect(address)
            signals.release()
            if not already and address:
                refuse_open_head(address, dashboard)
            yield
        finally:
            if not already:
                ray.shutdown()


@contextmanager
def _without_rays_handler() -> Iterator[None]:
    """Keep Ray from handling SIGTERM while it starts: its handler ends Ray's processes and leaves this one waiting."""
    utils = ray._private.utils  # noqa: SLF001 - there is no public way
    given = getattr(utils, "set_sigterm_handler", None)
    if given is None:
        yield
        return
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = given


def _start_or_connect(address: str | None) -> str:
    """Have Ray running, and return the address of its dashboard, if it has one. Raises: ConfigError."""
    local: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
    try:
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **local)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"Ray at {address} cannot be used" if address else "Ray cannot be started"
        raise ConfigError(f"{where}: {one_line(error)}; `raydistill doctor` looks for the cause") from error
    return str(getattr(context, "dashboard_url", ""))

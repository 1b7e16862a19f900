"""The local launcher: one CPU worker in a thread of the broker's process, without Ray Train.

It starts faster than a worker group of Ray Train, and trains the same to the last bit. It cannot survive its worker:
what kills the worker's process kills the broker, and with it the sweep, which `--resume` continues.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from raydistill.config import ConfigError
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.worker_group import RayLauncher, WorkerGroupSettings, worker_config

LAUNCHER = "RAYDISTILL_LAUNCHER"  # `ray` (the default) or `local`: one CPU worker beside the driver, without Ray Train
Launcher = Callable[[WorkerGroupSettings, str], Callable[[str], Awaitable[None]]]


class LocalLauncher:
    """Runs the one worker of a group in a thread. Lives inside the broker's actor, and ends with it."""

    def __init__(self, settings: WorkerGroupSettings, storage: str) -> None:
        self.settings, self.storage = settings, storage

    def __call__(self, name: str) -> Awaitable[None]:
        """Start the group `name`. Returns: what ends with its worker, and raises what ended it."""
        broker = ray.get_runtime_context().current_actor
        config = worker_config(name, broker, self.settings, self.storage)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            error = _run(config)
            loop.call_soon_threadsafe(_settle, ended, error)

        # A daemon: the actor's process does not wait for it.
        threading.Thread(target=work, name=name, daemon=True).start()
        return ended


def _run(config: dict[str, Any]) -> Exception | None:
    """Run the worker. Returns: what ended it, if the broker did not."""
    try:
        # Here, so that torch loads beside the broker's event loop and not in it.
        from raydistill.sweep.workers.worker_loop import run_worker
        from raydistill.training.distributed import Workers

        run_worker(config, "cpu", Workers())
    except Exception as error:
        return error
    return None


def _settle(ended: asyncio.Future[None], error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)


def choose_launcher(given: Launcher | None, settings: SweepSettings) -> Launcher:
    """Return the launcher `given`, else the one that RAYDISTILL_LAUNCHER names.

    Raises: ConfigError for another name, or if the local launcher cannot run what the sweep asks for.
    """
    launchers: dict[str, Launcher] = {"ray": RayLauncher, "local": LocalLauncher}
    name = os.environ.get(LAUNCHER, "ray")
    if given is None and name not in launchers:
        raise ConfigError(f"{LAUNCHER}={name!r}: choose {' or '.join(launchers)}")
    launcher = given or launchers[name]
    if launcher is LocalLauncher and (max(settings.packs, settings.workers, settings.most_workers or 1) > 1):
        raise ConfigError(f"{LAUNCHER}=local runs one worker: leave --packs and --workers at 1")
    if launcher is LocalLauncher and settings.gpu:
        raise ConfigError(f"{LAUNCHER}=local trains on the CPU: leave --gpu out")
    return launcher

"""Launchers of a single CPU worker without Ray Train, which start faster and train the same to the last bit.

`ProcessLauncher` gives the worker a process, and another one when that dies, as Ray Train does. `LocalLauncher` gives
it a thread of the broker's process: what kills the worker kills the sweep, which `--resume` continues.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import ray

from raydistill.config import ConfigError
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.cleanup import kill_actor_tree
from raydistill.sweep.workers.worker_group import (
    CPUS_PER_WORKER,
    MAX_FAILED_STARTS,
    MAX_WORKER_RESTARTS,
    RayLauncher,
    WorkerGroupSettings,
    on_this_node,
    worker_config,
)

LAUNCHER = "RAYDISTILL_LAUNCHER"  # one of LAUNCHERS, instead of the one that suits the sweep
MOST_PAUSE_S = 10  # between two starts of a worker that fail
Launcher = Callable[[WorkerGroupSettings, str], Callable[[str], Awaitable[None]]]


class ProcessLauncher:
    """Runs the one worker of a group in an actor on this node, and starts it again when it dies; learners resume.

    Lives inside the broker's actor, which owns the workers: they end with it.
    """

    def __init__(self, settings: WorkerGroupSettings, storage: str) -> None:
        self.settings, self.storage = settings, storage

    async def __call__(self, name: str) -> None:
        """Run the group `name` to its end. Raises: what ended its worker at last."""
        broker = ray.get_runtime_context().current_actor
        config = worker_config(name, broker, self.settings, self.storage)
        actor = ray.remote(num_cpus=CPUS_PER_WORKER, scheduling_strategy=on_this_node())(WorkerProcess)
        failed_starts = 0
        for left in reversed(range(MAX_WORKER_RESTARTS)):
            worker = actor.remote()
            try:
                await worker.prepare.remote()
                failed_starts = 0
                await worker.run.remote(config)
                return
            except ray.exceptions.RayError as error:
                # The broker finds the learner that kills its workers; its own mistakes a worker tells the broker.
                kill_actor_tree(worker)
                if not left:
                    raise
                failed_starts += 1
                if failed_starts > MAX_FAILED_STARTS:
                    cause = " ".join(str(error).split())[:300]
                    await broker.group_failed.remote(name, f"worker group {name} cannot start: {cause}")
                    return
            await asyncio.sleep(min(failed_starts - 1, MOST_PAUSE_S))


class WorkerProcess:
    """The process of one CPU worker."""

    def prepare(self) -> None:
        """Import what training needs, so that a process that cannot is told from one that its learners killed."""
        import_module("raydistill.sweep.workers.worker_loop")

    def run(self, config: dict[str, Any]) -> None:
        """Train until the broker closes the group; `config` is as `worker_config` makes it."""
        _run_worker(config)


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
        _run_worker(config)
    except Exception as error:
        return error
    return None


def _run_worker(config: dict[str, Any]) -> None:
    # Here, so that torch loads beside the broker's event loop and not in it.
    from raydistill.sweep.workers.worker_loop import run_worker
    from raydistill.training.distributed import Workers

    run_worker(config, "cpu", Workers())


def _settle(ended: asyncio.Future[None], error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)


LAUNCHERS: dict[str, Launcher] = {"ray": RayLauncher, "process": ProcessLauncher, "local": LocalLauncher}
ON_CPU = (ProcessLauncher, LocalLauncher)


def named_launcher(settings: SweepSettings) -> Launcher | None:
    """Return the launcher that RAYDISTILL_LAUNCHER names, if it names one.

    Raises: ConfigError for another name, or if the launcher cannot run what the sweep asks for.
    """
    name = os.environ.get(LAUNCHER)
    if name is None:
        return None
    if name not in LAUNCHERS:
        raise ConfigError(f"{LAUNCHER}={name!r}: choose {' or '.join(LAUNCHERS)}")
    check_launcher(LAUNCHERS[name], settings)
    return LAUNCHERS[name]


def check_launcher(launcher: Launcher, settings: SweepSettings) -> None:
    """Refuse a launcher of a single CPU worker for a sweep that asks for more. Raises: ConfigError."""
    if launcher not in ON_CPU:
        return
    name = next(name for name, each in LAUNCHERS.items() if each is launcher)
    if not _one_worker(settings):
        raise ConfigError(f"{LAUNCHER}={name} runs one worker: leave --packs and --workers at 1")
    if settings.gpu:
        raise ConfigError(f"{LAUNCHER}={name} trains on the CPU: leave --gpu out")


# docs/architecture.md#ray-free-worker-loop
def default_launcher(settings: SweepSettings, *, alone: bool) -> Launcher:
    """Return Ray Train's launcher, or, where one CPU worker on this machine is all, the faster one of a process.

    Args:
        settings: the sweep, which says whether workers take GPUs.
        alone: whether the cluster is the sweep's own on this machine.
    """
    return ProcessLauncher if alone and not settings.gpu and _one_worker(settings) else RayLauncher


def _one_worker(settings: SweepSettings) -> bool:
    return max(settings.packs, settings.workers, settings.most_workers or 1) == 1

"""Worker groups: each pack is one Ray Train run, on CPU with gloo or on GPUs with NCCL.

Free of torch, which the broker and the host of a group would import one after the other before any worker starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydistill.storage import to_path
from raydistill.sweep.workers.cleanup import kill_actor_tree

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

MAX_WORKER_RESTARTS = 1000
MAX_FAILED_STARTS, MAX_ROUNDS = 20, 3  # Ray Train counts minutes of waiting for resources as well
COLLECTIVE_TIMEOUT_S = 4 * 3600  # others wait for worker 0 while it scores, or makes a teacher's bank
CPUS_PER_WORKER = 0.9  # N workers fit on N cores beside small tasks, such as the entry point of a job


@dataclass(frozen=True)
class WorkerGroupSettings:
    """Settings of a worker group.

    `workers`, or with `most` as many as there are resources for, looked at every `resize_seconds`; `threads` of each
    worker, or None for its share of its node's cores, where `groups` such groups may be; one GPU per worker where
    `gpu`, or one for `per_gpu` workers of as many groups.
    """

    workers: int = 1
    most: int | None = None
    resize_seconds: float = 60.0
    groups: int = 1
    per_gpu: int = 1
    threads: int | None = None
    gpu: bool = False
    artifacts: str = "artifacts"
    artifacts_gib: float | None = None


def worker_config(name: str, broker: Any, settings: WorkerGroupSettings, storage: str) -> dict[str, Any]:
    """Return what `worker_loop.run_worker` needs to know.

    Args:
        name: of the group.
        broker: the actor that directs it.
        settings: of the sweep's groups.
        storage: the folder of the sweep's groups.
    """
    return {
        "broker": broker,
        "name": name,
        "storage": storage,
        "threads": settings.threads,
        "beside": {
            "groups": settings.groups,
            "workers": settings.most or settings.workers,
            "gpu": settings.gpu,
            "per_gpu": settings.per_gpu,
        },
        "artifacts": settings.artifacts,
        "artifacts_gib": settings.artifacts_gib,
    }


class RayLauncher:
    """Starts the host of a group. Runs inside the broker's actor, which owns the hosts: they end with it."""

    def __init__(self, settings: WorkerGroupSettings, storage: str) -> None:
        self.settings, self.storage = settings, storage

    def __call__(self, name: str) -> Any:
        host = ray.remote(num_cpus=0, scheduling_strategy=on_this_node())(GroupHost).remote()
        run = host.run.remote(name, ray.get_runtime_context().current_actor, self.settings, self.storage)
        return _until_over(host, run)


async def _until_over(host: Any, run: Awaitable[None]) -> None:
    """Wait for a host's run. After an error Ray Train may leave workers behind that hold what the next run needs."""
    try:
        await run
    except ray.exceptions.RayError:
        kill_actor_tree(host)
        raise


def _work(config: dict[str, Any]) -> None:
    """Run a worker. Its imports are here, since neither the host nor Ray Train's controller needs any of them."""
    # docs/architecture.md#torch-free-messages
    from raydistill.sweep.workers.worker_loop import train_loop

    train_loop(config)


# docs/architecture.md#drivers-node
def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Pin the actors that a sweep does not survive: they live and end with the driver, not with a worker node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class GroupHost:
    """Keeps one worker group alive: Ray Train restarts it when a worker dies, learners resume."""

    def run(self, name: str, broker: Any, settings: WorkerGroupSettings, storage: str) -> None:
        """Train until the broker has closed the group. Raises what ended it; the broker starts another.

        A group whose workers fail to start again and again ends, and the broker hears why.

        Args:
            name: of the group.
            broker: the actor.
            settings: of the group.
            storage: where Ray Train writes.
        """
        from ray.train import ControllerError
        from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

        starts = 0
        for attempt in itertools.count():
            trainer = _trainer(name, attempt, broker, settings, storage)
            try:
                trainer.fit()
                return
            except ControllerError as error:
                failure = error.controller_failure
                if isinstance(failure, WorkerGroupStartupTimeoutError):
                    continue  # a cluster may be busy for hours
                if not isinstance(failure, WorkerGroupStartupFailedError):
                    raise
                starts += 1
                if starts == MAX_ROUNDS:
                    cause = " ".join(str(failure).split())[:300]
                    ray.get(broker.group_failed.remote(name, f"worker group {name} cannot start: {cause}"))
                    return


def _trainer(name: str, attempt: int, broker: Any, settings: WorkerGroupSettings, storage: str) -> TorchTrainer:
    """Make the Ray Train run of a group.

    Args:
        name: of the group.
        attempt: to run it.
        broker: the actor.
        settings: of the group.
        storage: where Ray Train writes.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    elastic = settings.most is not None and settings.most > settings.workers
    return TorchTrainer(
        _work,
        train_loop_config=worker_config(name, broker, settings, storage),
        scaling_config=ScalingConfig(
            num_workers=(settings.workers, settings.most) if elastic else settings.workers,
            use_gpu=settings.gpu,
            resources_per_worker={"CPU": CPUS_PER_WORKER, **({"GPU": 1 / settings.per_gpu} if settings.gpu else {})},
            elastic_resize_monitor_interval_s=settings.resize_seconds,
        ),
        # Objects go by gloo, so that waiting for worker 0, which scores alone, does not occupy the GPUs.
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if settings.gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S
        ),
        run_config=RunConfig(
            name=f"{to_path(storage).name}-{name}" + (f"-{attempt}" if attempt else ""),
            storage_path=storage,
            # The broker finds the learner that kills its workers; this only ends what cannot start at all.
            failure_config=FailureConfig(max_failures=MAX_WORKER_RESTARTS, controller_failure_limit=MAX_FAILED_STARTS),
        ),
    )

"""Worker groups: each pack is one Ray Train run, on CPU with gloo or on GPUs with NCCL."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydistill.artifacts.store import open_store
from raydistill.evaluation.online import evaluate
from raydistill.storage import StorageError, place
from raydistill.sweep.ending import end
from raydistill.sweep.settings import FILE as SWEEP_FILE
from raydistill.training.distributed import Workers, lost_worker
from raydistill.training.messages import Load, Orders, Report
from raydistill.training.pack import LearnerFailed
from raydistill.training.worker import serve

SECONDS_BETWEEN_TICKS = 2.0
MOST_DEATHS = 1000
CPUS = 0.9  # of a worker: trials hold a thousandth of a core each, and N workers shall fit on N cores


@dataclass(frozen=True)
class GroupSettings:
    """`workers` of a group, or with `most` as many as there are resources for, looked at every `resize_seconds`;
    `threads` of torch in each CPU worker, one GPU per worker where `gpu`."""

    workers: int = 1
    most: int | None = None
    resize_seconds: float = 60.0
    threads: int = 1
    gpu: bool = False
    artifacts: str = "artifacts"
    artifacts_gib: float | None = None


class BrokerControl:
    """A worker's line to the broker."""

    def __init__(self, broker: Any, name: str, workers: int) -> None:
        self.broker = broker
        self.name = name
        self.workers = workers
        self.fresh = True
        self.up = False
        self.told = time.monotonic()

    def boundary(self, reports: list[Report], load: Load | None) -> Orders:
        orders = ray.get(self.broker.boundary.remote(self.name, reports, load, self.fresh, self.workers))
        self.fresh = False
        return orders

    def started(self) -> None:
        self.up = True

    def tick(self, share: float) -> None:
        if time.monotonic() - self.told > SECONDS_BETWEEN_TICKS:
            self.told = time.monotonic()
            self.broker.tick.remote(self.name, share)

    def failed(self, report: Report) -> None:
        ray.get(self.broker.learner_failed.remote(self.name, report))


class Launcher:
    """Starts the host of a group. Runs inside the broker's actor, which owns the hosts: they end with it."""

    def __init__(self, settings: GroupSettings, storage: str) -> None:
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
        end(host)
        raise


def train_loop(config: dict[str, Any]) -> None:
    """What every worker of a group runs, until the broker closes it."""
    import ray.train.torch

    torch.set_num_threads(config["threads"])
    logging.getLogger("raydistill").setLevel(os.environ.get("RAYDISTILL_LOG", "WARNING"))
    workers = Workers()
    control = BrokerControl(config["broker"], config["name"], workers.world)
    try:
        if not (place(config["storage"]).parent.parent / SWEEP_FILE).exists():
            raise StorageError(f"--storage is not reached from node {ray.util.get_node_ip_address()}")
        store = open_store(place(config["artifacts"]), config["artifacts_gib"])
        serve(control, evaluate=evaluate, device=ray.train.torch.get_device(), workers=workers, store=store)
    except Exception as error:
        if not control.up and not isinstance(error, LearnerFailed) and not (workers.lost(error) or lost_worker(error)):
            message = f"worker group {config['name']} cannot start: {' '.join(str(error).split())}"
            ray.get(control.broker.group_failed.remote(config["name"], message))
        raise


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """For the actors that a sweep does not survive: they live and end with the driver, not with a worker node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class GroupHost:
    """Keeps one worker group alive: Ray Train restarts it when a worker dies, learners resume."""

    def run(self, name: str, broker: Any, settings: GroupSettings, storage: str) -> None:
        """Returns when the broker has closed the group. Raises what ended it; the broker starts another."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        elastic = settings.most is not None and settings.most > settings.workers
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={
                "broker": broker,
                "name": name,
                "storage": storage,
                "threads": settings.threads,
                "artifacts": settings.artifacts,
                "artifacts_gib": settings.artifacts_gib,
            },
            scaling_config=ScalingConfig(
                num_workers=(settings.workers, settings.most) if elastic else settings.workers,
                use_gpu=settings.gpu,
                resources_per_worker={"CPU": CPUS, **({"GPU": 1} if settings.gpu else {})},
                elastic_resize_monitor_interval_s=settings.resize_seconds,
            ),
            torch_config=TorchConfig(backend="nccl" if settings.gpu else "gloo"),
            run_config=RunConfig(
                name=f"{place(storage).name}-{name}",
                storage_path=storage,
                # The broker finds the learner that kills its workers; this only ends what cannot start at all.
                failure_config=FailureConfig(max_failures=MOST_DEATHS),
            ),
        )
        trainer.fit()

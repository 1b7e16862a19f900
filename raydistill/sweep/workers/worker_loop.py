"""Worker inside Ray Train: the loop of `training/worker.py`, directed by the broker."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import ray
import torch

from raydistill.artifacts.store import open_store
from raydistill.data.pool import limit_threads
from raydistill.evaluation.online import evaluate
from raydistill.machine import usable_cores
from raydistill.records.layout import SWEEP_FILE
from raydistill.storage import StorageError, to_path
from raydistill.sweep.display.timings import STEP, WORKER
from raydistill.training.devices import check_computes
from raydistill.training.distributed import Workers, lost_worker
from raydistill.training.failures import LearnerError
from raydistill.training.messages import Directive, EpochResult, EpochStats
from raydistill.training.worker import serve

TICK_INTERVAL_S = 2.0


# docs/architecture.md#ray-free-worker-loop
class BrokerControl:
    """A worker's line to the broker."""

    def __init__(self, broker: Any, name: str, workers: int) -> None:
        self.broker = broker
        self.name = name
        self.workers = workers
        self.fresh = True
        self.up = False
        self.stepped = False
        self.last_tick = time.monotonic()

    def boundary(self, reports: list[EpochResult], load: EpochStats | None) -> Directive:
        directive = ray.get(self.broker.boundary.remote(self.name, reports, load, self.fresh, self.workers))
        self.fresh = False
        return directive

    def started(self) -> None:
        self.up = True

    def tick(self, share: float) -> None:
        if not self.stepped:
            self.stepped = True
            self.broker.note.remote(STEP, time.time())
        if time.monotonic() - self.last_tick > TICK_INTERVAL_S:
            self.last_tick = time.monotonic()
            self.broker.tick.remote(self.name, share)

    def failed(self, reports: list[EpochResult]) -> None:
        ray.get(self.broker.learners_failed.remote(self.name, reports))


def train_loop(config: dict[str, Any]) -> None:
    """Run a worker of a group, until the broker closes the group."""
    import ray.train.torch

    run_worker(config, ray.train.torch.get_device(), Workers())


def run_worker(config: dict[str, Any], device: torch.device | str, workers: Workers) -> None:
    """Train what the broker assigns until it closes the group.

    Args:
        config: as `worker_group.worker_config` makes it.
        device: where this worker trains.
        workers: the process group.

    Raises: whatever ends the worker. The broker hears of a group that cannot start.
    """
    threads = config["threads"] or threads_of(ray.nodes(), ray.get_runtime_context().get_node_id(), **config["beside"])
    torch.set_num_threads(threads)
    limit_threads(threads)
    config["broker"].note.remote(WORKER, time.time())
    control = BrokerControl(config["broker"], config["name"], workers.world)
    if not ray.get(config["broker"].wants.remote(config["name"])):
        return  # workers before these could not start
    try:
        logging.getLogger("raydistill").setLevel(os.environ.get("RAYDISTILL_LOG", "WARNING").upper())
        if not (to_path(config["storage"]).parent.parent / SWEEP_FILE).exists():
            raise StorageError(f"--storage is not reached from node {ray.util.get_node_ip_address()}")
        check_computes(torch.device(device))
        store = open_store(to_path(config["artifacts"]), config["artifacts_gib"])
        serve(control, evaluate=evaluate, device=device, workers=workers, store=store)
    except Exception as error:
        if not control.up and not isinstance(error, LearnerError) and not (workers.lost(error) or lost_worker(error)):
            message = f"worker group {config['name']} cannot start: {' '.join(str(error).split())}"
            ray.get(control.broker.group_failed.remote(config["name"], message))
        raise


def threads_of(nodes: list[dict[str, Any]], own: str, *, groups: int, workers: int, gpu: bool, per_gpu: int = 1) -> int:
    """Return this worker's share of the cores of its node.

    Args:
        nodes: of the cluster, as `ray.nodes` describes them.
        own: id of this node.
        groups: of the sweep, which spread over the nodes that have cores.
        workers: of each group, which Ray Train puts on one node where it can.
        gpu: whether workers take GPUs, so that a node has as many workers as GPUs at most.
        per_gpu: workers that share one.
    """
    alive = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
    if gpu:
        beside = min(groups * workers, int(alive[own].get("GPU", 1)) * per_gpu)
    else:
        beside = workers * math.ceil(groups / max(1, sum(resources.get("CPU", 0) >= 1 for resources in alive.values())))
    return max(1, int(usable_cores()) // max(1, beside))

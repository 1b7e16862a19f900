"""Worker groups: each pack is one Ray Train run, on CPU with gloo or on GPUs with NCCL."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from raydistill.artifacts.store import Store
from raydistill.evaluation.online import evaluate
from raydistill.training.distributed import Workers
from raydistill.training.pack import Report
from raydistill.training.worker import Orders, serve

SECONDS_BETWEEN_TICKS = 2.0


@dataclass(frozen=True)
class GroupSettings:
    """`workers` per pack, `threads` of torch in each CPU worker, one GPU per worker where `gpu`."""

    workers: int = 1
    threads: int = 1
    gpu: bool = False
    max_failures: int = 3
    artifacts: str = "artifacts"
    artifacts_gib: float | None = None


class BrokerControl:
    """Worker 0's line to the broker."""

    def __init__(self, broker: Any, pack_id: str) -> None:
        self.broker = broker
        self.pack_id = pack_id
        self.fresh = True
        self.told = time.monotonic()

    def boundary(self, reports: list[Report]) -> Orders:
        orders = ray.get(self.broker.boundary.remote(self.pack_id, reports, self.fresh))
        self.fresh = False
        return orders

    def tick(self, share: float) -> None:
        if time.monotonic() - self.told > SECONDS_BETWEEN_TICKS:
            self.told = time.monotonic()
            self.broker.tick.remote(self.pack_id, share)


def train_loop(config: dict[str, Any]) -> None:
    """What every worker of a group runs, until the broker closes its pack."""
    import ray.train.torch

    torch.set_num_threads(config["threads"])
    logging.getLogger("raydistill").setLevel(os.environ.get("RAYDISTILL_LOG", "WARNING"))
    control = BrokerControl(config["broker"], config["pack_id"])
    store = Store(Path(config["artifacts"]), config["artifacts_gib"])
    serve(control, evaluate=evaluate, device=ray.train.torch.get_device(), workers=Workers(), store=store)


class PackHost:
    """Keeps one worker group alive: Ray Train restarts it when a worker dies, learners resume."""

    def run(self, pack_id: str, broker: Any, settings: GroupSettings, storage: str) -> str:
        """Returns "" when the pack was closed, else why its group is gone for good."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        trainer = TorchTrainer(
            train_loop,
            train_loop_config={
                "broker": broker,
                "pack_id": pack_id,
                "threads": settings.threads,
                "artifacts": settings.artifacts,
                "artifacts_gib": settings.artifacts_gib,
            },
            scaling_config=ScalingConfig(
                num_workers=settings.workers,
                use_gpu=settings.gpu,
                resources_per_worker={"CPU": 1, **({"GPU": 1} if settings.gpu else {})},
            ),
            torch_config=TorchConfig(backend="nccl" if settings.gpu else "gloo"),
            run_config=RunConfig(
                name=Path(storage).name + "-" + pack_id,
                storage_path=str(Path(storage)),
                failure_config=FailureConfig(max_failures=settings.max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            message = f"worker group {pack_id} is gone: {lines[-1].strip()}"
            ray.get(broker.pack_failed.remote(pack_id, message))
            return message
        return ""

"""What all parts are made of: images, learners and packs, small on a CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from raydistill import config as configuration
from raydistill.artifacts import teachers
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import save_teacher
from raydistill.config import Config, DataConfig
from raydistill.data.images import Decoder, Images, Raw
from raydistill.data.sources import Dataset, load_dataset
from raydistill.data.views.augment import normalization
from raydistill.models.backbones import Backbone
from raydistill.models.teacher import FrozenTeacher
from raydistill.training.messages import JoinRequest
from raydistill.training.pack import Evaluate, Pack
from raydistill.trial_spec import TrialSpec

SIZE, CLASSES = 32, 10


def no_scores(learners: Any, dataset: Dataset, device: torch.device) -> dict[str, dict[str, float]]:
    return {}


@dataclass
class Setting:
    """Where the parts run, and how large they are: full size on a GPU, tiny on a CPU.

    Args:
        device: of all learners.
        folder: for checkpoints and the teacher.
        data: CIFAR-10 as Parquet; empty: noise.
        small: tiny on a GPU too.
    """

    device: torch.device
    folder: Path
    data: str = ""
    small: bool = False
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "store")

    @property
    def large(self) -> bool:
        return self.device.type == "cuda" and not self.small

    @property
    def batch(self) -> int:
        return 256 if self.large else 16

    @property
    def students(self) -> tuple[str, ...]:
        return ("resnet18", "resnet10_w16") if self.large else ("resnet10_w4",)

    def settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @cached_property
    def dataset(self) -> Dataset:
        """16,384 training images and 2,048 for validation, or a few."""
        count = 20_480 if self.large else 80
        if self.data:
            return load_dataset(DataConfig(source=self.data, image_size=SIZE, limit=count, cache_gib=2))
        part = count // 10
        return Dataset("noise", noise(count - 2 * part), noise(part), noise(part), tuple("0123456789"), SIZE)

    @cached_property
    def teacher(self) -> str:
        """The key of a teacher with random weights."""
        backbone = "resnet50" if self.large else "resnet10_w8"
        torch.manual_seed(0)
        net = Backbone(backbone, stem="small", image_size=SIZE)
        shown = normalization("", SIZE)

        def make(folder: Path) -> None:
            save_teacher(FrozenTeacher(net, None, shown, shown), folder / teachers.FILE, provenance={"weights": "none"})

        return self.store.get("teacher", {"random": backbone}, make).name

    @property
    def seed(self) -> dict[str, Any]:
        """SEED with the teacher's features, which a teacher without a head has."""
        return {"name": "seed", "teacher": "features", "queue_size": 4096 if self.large else 32}

    def config(self, method: dict[str, Any], *, batch: int | None = None, **train: Any) -> Config:
        """The configuration of a learner; methods that need a teacher have the random one."""
        values: dict[str, Any] = {
            "method": method,
            "data": {"source": self.data or "digits", "image_size": SIZE, "batch_size": batch or self.batch},
            "train": {"epochs": 1000, "lr": 1e-3, **train},
        }
        if method["name"] == "seed":
            values["teacher"] = {"sources": [f"artifact:{self.teacher}"]}
        return configuration.load(values)

    def pack(
        self,
        configs: Sequence[Config],
        evaluate: Evaluate = no_scores,
        directory: Path | None = None,
        prefetch: int | None = None,
    ) -> Pack:
        """A pack of one trial for each configuration. Raises RuntimeError if one cannot join."""
        pack = Pack(
            self.dataset, configs[0].data, evaluate=evaluate, device=self.device, store=self.store, prefetch=prefetch
        )
        for number, config in enumerate(configs):
            place = None if directory is None else str(directory / str(number))
            report = pack.add(JoinRequest(str(number), TrialSpec(config), place))
            if report is not None:
                raise RuntimeError(report.error)
        return pack


def noise(count: int) -> Images:
    """A split of random images with random labels, kept in memory."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, CLASSES, count))
    raw = Raw(count, lambda i: Image.fromarray(pixels[i]), lambda i: f"image {i}", labels, ())
    rows = torch.arange(count)
    decoder = Decoder(raw, rows.numpy(), skip=False, cache_bytes=2**31)
    return Images(decoder, rows, labels, tuple("0123456789"), SIZE)

"""Networks that `raydistill evaluate` scores: the encoder of a run, of a library or of a file, and its references."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raydistill.artifacts.sources import LIBRARY
from raydistill.config import Config, ConfigError, TeacherConfig
from raydistill.errors import RaydistillError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from raydistill.data.views.augment import Normalization
    from raydistill.export.run import ResolvedRun

PIXELS = "pixels"


@dataclass(frozen=True)
class Scored:
    """A network, and its SSL head if it has one.

    Args:
        name: of its row.
        encoder: images (N, 3, S, S) -> (N, D).
        head: of the k-NN protocols that look at it.
    """

    name: str
    encoder: nn.Module
    head: nn.Module | None = None


def is_library(given: str) -> bool:
    """Return whether ENCODER is a network of a library, or a file or folder that a library wrote, and no run."""
    if LIBRARY.fullmatch(given):
        return True
    path = Path(given).expanduser()
    if path.is_file():
        return True
    if not path.is_dir() or (path / "config.yaml").exists():
        return False
    from raydistill.planning.prepare import is_hub_folder

    return is_hub_folder(path)


def of_run(found: ResolvedRun, name: str) -> list[Scored]:
    """The encoder of a run, and the same network before its first step where the run says how that was drawn.

    Args:
        found: the run.
        name: of the encoder.
    """
    from raydistill import methods
    from raydistill.artifacts.teachers import given_from
    from raydistill.export.encoders import choose, head_of

    called = found.run if found.export is None else found.export.name
    scored = [Scored(called if name == "student" else f"{called}, {name}", choose(found, name))]
    if found.export is None:
        scored[0] = Scored(scored[0].name, scored[0].encoder, head_of(found) if name == "student" else None)
        fresh = methods.build(found.config.method, given_from(found.state), seed=found.config.train.seed).eval()
        scored.append(Scored("untrained", fresh.encoders()[name], fresh.head() if name == "student" else None))
    return scored


def of_library(
    given: str, settings: TeacherConfig, image_size: int, shown: Normalization, device: torch.device
) -> list[Scored]:
    """A network with published weights, and the same one with fresh weights.

    Args:
        given: `timm:NAME`, `torchvision:NAME`, a checkpoint, or a folder of timm's or transformers'.
        settings: how a checkpoint is read.
        image_size: of the views in pixels.
        shown: their normalisation.
        device: of the networks.

    Raises:
        ConfigError: it cannot be read, or its weights cannot be had.
    """
    from raydistill.artifacts import teachers
    from raydistill.artifacts.store import Store
    from raydistill.evaluation.teacher_features import TeacherFeatures
    from raydistill.planning.prepare import locate

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            key = locate(store, given, settings, image_size).removeprefix(teachers.PREFIX)
            teacher = teachers.load(store, key, shown, device)
        except (RaydistillError, OSError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).replace("teacher.sources: ", "").split())
            raise ConfigError(f"{given} cannot be scored: {said[:400]}") from None
    return [
        Scored(given, TeacherFeatures(teacher), teacher.head),
        Scored("untrained", TeacherFeatures(teachers.untrained_like(teacher))),
    ]


def check_size(found: ResolvedRun, config: Config) -> None:
    """Refuse views of another size than the run's network was trained with. Raises ConfigError."""
    own = found.context["image_size"]
    if config.data.image_size not in (None, own):
        raise ConfigError(f"--set data.image_size={config.data.image_size}: {found.run} was trained at {own} px")

"""Files with the features of a run's checkpoints, by which the ways of runs through function space are drawn."""

from __future__ import annotations

import io
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.data.drawing import limited
from raydistill.errors import one_line
from raydistill.storage import StoragePath
from raydistill.training.checkpoint_files import CheckpointError, write_atomically

IMAGES = 200  # whose 19900 pairs describe a checkpoint
DRAW = 6  # tells this draw from others of the same seed


def chosen_images(count: int) -> list[int]:
    """Rows of the images of `count` that describe a checkpoint: all, or the same sample of 200 in every run."""
    return limited(None, count, (0, DRAW), IMAGES).tolist()


def write_features(path: StoragePath, features: Tensor) -> None:
    """Keep features (N, D) of a checkpoint, of unit length and in float16, since their cosines alone count.

    Raises:
        CheckpointError: features that are not finite.
        OSError: the storage refuses.
    """
    if not torch.isfinite(features).all():
        raise CheckpointError(f"{path}: features are not finite")
    file = io.BytesIO()
    np.savez_compressed(file, features=F.normalize(features.cpu().double(), dim=1).numpy().astype(np.float16))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, file.getvalue())


def read_features(folder: StoragePath) -> list[Tensor]:
    """The features (N, D) of a run's checkpoints in their order, float32; none where nothing was kept.

    Raises: CheckpointError for a file that cannot be read.
    """
    found = []
    paths: list[StoragePath] = sorted(folder.glob("epoch-*.npz"))
    for path in paths:
        try:
            with np.load(io.BytesIO(path.read_bytes())) as kept:
                found.append(torch.from_numpy(kept["features"].astype(np.float32)))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise CheckpointError(f"{path}: features cannot be read ({one_line(error)})") from None
    return found

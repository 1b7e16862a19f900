"""Labels that tasks learn from: shares of them, and labels of which some are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raydistill.data.images import DataError
from raydistill.data.sources import Dataset

_SHARES, _NOISE = 6, 7  # after `data.split_seed`, lest draws for other ends have the same numbers


def check_labels(dataset: Dataset) -> None:
    """Refuse images without labels. Raises: DataError, naming the split."""
    for name, split in (("training", dataset.bank), ("validation", dataset.val), ("test", dataset.test)):
        if split.labels is None:
            raise DataError(f"{dataset.name}: the {name} images have no labels, which this task needs")


def shares(labels: Tensor, percents: Sequence[float], seed: int) -> dict[float, Tensor]:
    """Draw a share of the images of each class, at least one; smaller shares lie within larger ones.

    The draws are the same in every run with this seed.

    Args:
        labels: (N,).
        percents: of each class, above 0 and at most 100.
        seed: of the draws.

    Returns: sorted rows by percent.
    """
    rng = np.random.default_rng([seed, _SHARES])
    known = labels.cpu().numpy()
    orders = [rng.permutation(np.flatnonzero(known == each)) for each in np.unique(known)]
    return {
        percent: torch.from_numpy(
            np.sort(np.concatenate([rows[: max(1, round(percent / 100 * len(rows)))] for rows in orders]))
        )
        for percent in percents
    }


def redrawn(labels: Tensor, rate: float, classes: int, seed: Sequence[int]) -> Tensor:
    """Replace each label with probability `rate` by a uniform class, which may be the same one.

    Labels that a lower rate replaces are replaced by the same classes at a higher one.

    Args:
        labels: (N,).
        rate: between 0 and 1.
        classes: number of classes.
        seed: of the draws.
    """
    rng = np.random.default_rng([*seed[:1], _NOISE, *seed[1:]])
    chosen = torch.from_numpy(rng.random(len(labels)) < rate).to(labels.device)
    drawn = torch.from_numpy(rng.integers(classes, size=len(labels))).to(labels.device)
    return torch.where(chosen, drawn, labels)

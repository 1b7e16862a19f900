"""End of a training of open length: its score has settled, and its learning rate has fallen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raydistill.config import TrainConfig

COOLDOWN_PARTS = 5  # a cosine falls over the last of so many parts of the training
OPENING_PARTS = 4  # scores of the first of so many parts of the longest training do not count


def is_opening(train: TrainConfig, epoch: int) -> bool:
    """Return whether the score after an epoch says nothing about the end of training.

    That is so during the warm-up and in the first quarter of `train.epochs`: scores often rest there before they rise.

    Args:
        train: the settings.
        epoch: counted from 1.
    """
    return epoch <= max(train.warmup_epochs, train.epochs / OPENING_PARTS)


def has_settled(scores: Sequence[float], images: int, patience: int) -> bool:
    """Return whether the last `patience` scores are above the best one before them by at most its standard error.

    Args:
        scores: shares of images, in [0, 1], oldest first.
        images: that each is a share of; the standard error of a share p is sqrt(p (1 - p) / images).
        patience: number of scores without a rise.
    """
    if len(scores) <= patience:
        return False
    best = max(scores[:-patience])
    return max(scores[-patience:]) <= best + math.sqrt(best * (1 - best) / images)


def span(train: TrainConfig, settled: int | None) -> tuple[int | None, int]:
    """Return the epoch from which a cosine falls, None for its start, and the epoch with which training ends.

    With `train.patience` the rate is held until the score has settled. A constant rate then ends; a cosine falls for
    a quarter as long as it was held, and ends with `train.epochs` at the latest.

    Args:
        train: the settings.
        settled: the epoch after which the score has settled, None while it has not.
    """
    if train.patience is None:
        return None, train.epochs
    if train.schedule == "constant":
        return None, settled or train.epochs
    latest = train.epochs - math.ceil(train.epochs / COOLDOWN_PARTS)
    if settled is None or settled >= latest:
        return latest, train.epochs
    return settled, settled + math.ceil(settled / (COOLDOWN_PARTS - 1))

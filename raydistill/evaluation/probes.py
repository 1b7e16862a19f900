"""The linear probe that a configuration names, and the features that it learns from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raydistill.config import Config
from raydistill.data.sources import Dataset
from raydistill.evaluation.logistic import logistic_probe
from raydistill.evaluation.online import embed_split, has_room
from raydistill.evaluation.probe import ProbeResult, Split, linear_probe


def fit_probe(train: Split, val: Split, test: Split, config: Config, classes: int) -> ProbeResult:
    """Train the probe that `eval.probe` names; what validation chooses is scored once on test.

    Args:
        train: features (N, D) and labels (N,), on the device where the probe learns.
        val: alike, to choose epoch or regularisation.
        test: alike, to score.
        config: its section `eval`, and the probe's seed (`train.seed`).
        classes: number of classes.

    Raises:
        ValueError: features that are not finite, or that do not fit the labels; the message names the split.
    """
    splits = (*train, *val)
    options: dict[str, Any] = {"test": test[0], "test_labels": test[1], "classes": classes}
    if config.eval.probe == "logistic":
        return logistic_probe(*splits, **options)
    options |= {"preset": config.eval.probe, "lr": config.eval.probe_lr, "seed": config.train.seed}
    return linear_probe(*splits, **options, epochs=config.eval.probe_epochs if config.eval.probe == "dogo" else None)


def embed_splits(encoder: nn.Module, dataset: Dataset, device: torch.device) -> tuple[Split, Split, Split]:
    """Compute the features (N, D) and labels (N,) of what a probe learns from, of validation and of test.

    Nothing is augmented. On a GPU they stay there if there is room, else they come to the CPU.

    Args:
        encoder: the network.
        dataset: the images.
        device: where the network is.
    """
    keep = has_room(encoder, dataset, device)
    train, val, test = (
        embed_split(encoder, dataset, split, device, keep=keep) for split in (dataset.bank, dataset.val, dataset.test)
    )
    return train, val, test

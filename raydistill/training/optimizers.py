"""The optimizer that a configuration asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raydistill.config import TrainConfig


def make_optimizer(train: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Over all `parameters`; with `decay: matrices` biases and norms (one dimension) have no weight decay.

    LARS leaves parameters without weight decay unscaled, as the published recipes do.
    """
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if train.decay == "matrices":
        groups = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    common: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    moving: dict[str, Any] = {"momentum": train.momentum, "nesterov": train.nesterov}
    if train.optimizer == "lars":
        from timm.optim import Lars

        return Lars(groups, trust_coeff=train.lars_eta, **common, **moving)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, fused=True, **common, **moving)
    return (torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW)(groups, fused=True, **common)

"""Schedules: functions of an explicit step and total, never of hidden state."""

from __future__ import annotations

import math

from raydistill.config import Train


def learning_rate(train: Train, *, step: int, total: int, steps_per_epoch: int, batch_size: int) -> float:
    """The rate of optimisation step `step` of `total`, counted from 0.

    Linear warm-up from 0, then constant or a cosine to 0 over the remaining steps. With
    `lr_scaling: linear` the rate is multiplied by batch_size / 256.
    """
    peak = train.lr * (batch_size / 256 if train.lr_scaling == "linear" else 1)
    warmup = round(train.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * (step + 1) / warmup
    if train.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

"""Schedules: functions of an explicit step and total, never of hidden state."""

from __future__ import annotations

import math

from raydistill.config import TrainConfig


def learning_rate(
    train: TrainConfig, *, step: int, total: int, steps_per_epoch: int, batch_size: int, fall: int | None = None
) -> float:
    """Learning rate of one optimisation step.

    Linear warm-up from 0, then constant, a cosine to 0 over the remaining steps, or a multiplication by
    `gamma` at each of the `milestones`, which are shares of the whole training. With `schedule_unit: epoch`
    cosine and milestones see the first step of the epoch. With `lr_scaling: linear` the rate is multiplied
    by batch_size / 256.

    Args:
        train: the settings.
        step, total: counted from 0, and the number of steps.
        steps_per_epoch: of the stream.
        batch_size: of all workers together.
        fall: the step from which a cosine falls; None: the end of the warm-up.
    """
    peak = train.lr * (batch_size / 256 if train.lr_scaling == "linear" else 1)
    warmup = round(train.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * (step + 1) / warmup
    if train.schedule_unit == "epoch":
        step -= step % steps_per_epoch
    if train.schedule == "constant":
        return peak
    if train.schedule == "step":
        return peak * train.gamma ** sum(step >= milestone * total for milestone in train.milestones)
    start = warmup if fall is None else max(fall, warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * max(0, step - start) / max(1, total - start)))

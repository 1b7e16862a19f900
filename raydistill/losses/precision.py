"""Losses are computed in at least float32, whatever the networks run in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss outside autocast, its half-precision tensors widened to float32."""

    @wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(arg for arg in args if isinstance(arg, Tensor)).device.type
        with torch.autocast(device, enabled=False):
            return loss(*map(_widen, args), **kwargs)  # type: ignore[arg-type]

    return wrapped


def _widen(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value

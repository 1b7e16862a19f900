"""Momentum encoders: copies that follow a network without gradient."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy that starts at the same weights and takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Move a momentum network: target <- momentum * target + (1 - momentum) * source.

    Every parameter moves; buffers are not copied. A momentum network runs in train mode with batch statistics of
    its own (SDSSL and MoCo, released code).

    Args:
        target: the momentum network.
        source: the trained network.
        momentum: in [0, 1].
    """
    targets, sources = [[p.detach() for p in module.parameters()] for module in (target, source)]
    if targets:
        torch._foreach_lerp_(targets, sources, 1 - momentum)

"""CRD's critic with its normaliser: the loss of CRD's two halves, and of SEED's `binary_contrastive`."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from raydistill.losses.queues import binary_contrastive, log_normalizer


class Critic(nn.Module):
    """Binary contrastive loss against a queue, divided by a constant Z that the first batch decides.

    All workers see the gathered rows, so they estimate the same Z. It is part of the state.

    Args:
        images: number of training images.
        tau: temperature, > 0.
        normalizer: `none`: Z = 1, and no state.
    """

    log_z: Tensor  # -inf before the first batch

    def __init__(self, images: int, tau: float, normalizer: Literal["first_batch", "none"]) -> None:
        super().__init__()
        self.images, self.tau = images, tau
        self.normalized = normalizer == "first_batch"
        if self.normalized:
            self.register_buffer("log_z", torch.tensor(-math.inf))
        self._estimate: Tensor | None = None

    def forward(self, student: Tensor, teacher: Tensor, queue: Tensor) -> Tensor:
        """Return the loss of embeddings (N, D) of all workers against a queue (K, D) of unit vectors."""
        if not self.normalized:
            return binary_contrastive(student, teacher, queue, self.tau, self.images)
        # Estimated at every step and used at the first alone, since a test of its value would wait for the GPU.
        estimate = log_normalizer(student, teacher, queue, self.tau, self.images)
        self._estimate = torch.where(self.log_z.isneginf(), estimate.to(self.log_z.dtype), self.log_z)
        return binary_contrastive(student, teacher, queue, self.tau, self.images, self._estimate)

    def after_step(self) -> None:
        """Keep the Z of the first batch."""
        if self._estimate is not None:
            self.log_z.copy_(self._estimate)
            self._estimate = None

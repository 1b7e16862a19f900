"""Error of a regression on images that it was not trained on (SimReg's tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.methods import Method


class HeldOutDistance(nn.Module):
    """Squared distance between a method's normalised predictions and the normalised outputs of its teachers.

    Called with the images of a split, batch by batch and in their order; with several teachers the mean over them.

    Args:
        method: one that regresses its teachers.
        targets: what each teacher makes of the split's images, (M, D).
    """

    def __init__(self, method: Method, targets: Sequence[Tensor]) -> None:
        super().__init__()
        self.method, self.targets, self.seen = method, tuple(targets), 0

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S), the next ones of the split -> (N, 1), each in [0, 4]."""
        rows = slice(self.seen, self.seen + len(images))
        pairs = self.method.regression(images, [target[rows].to(images.device) for target in self.targets])
        unit = [[F.normalize(side.float(), dim=1, eps=1e-12) for side in pair] for pair in pairs]
        errors = [(prediction - target).square().sum(dim=1) for prediction, target in unit]
        self.seen = rows.stop  # last, since a batch that memory did not hold comes again in halves
        return torch.stack(errors).mean(dim=0).unsqueeze(1)

"""Losses between similarity matrices. Pure functions of tensors. N images, D dimensions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.losses.precision import full_precision

Reduction = Literal["element_mean", "batchmean"]


@full_precision
def cross_view_logits(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """Cosines (N, N) between the rows of two views over tau; the diagonal (positives) stays.

    Args:
        a, b: (N, D), normalised here.
        tau: temperature, > 0.

    Source: DoGo section 3.2, NeurAI-Lab/DoGo, branch dogo, criterion/kl.py.
    """
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / tau


@full_precision
def row_kl(target: Tensor, logits: Tensor, reduction: Reduction = "element_mean") -> Tensor:
    """KL(target ‖ softmax(logits)) over rows; no gradient reaches the target.

    Args:
        target: (N, N) log-probabilities of the teacher, detached here.
        logits: (N, N) similarities of the learner, divided by the temperature.
        reduction: `element_mean` divides the sum by N*N (released code), `batchmean` by N, so that
            batchmean = N * element_mean, and lambda 100 at N = 256 is 0.39 per sample.

    Returns: scalar >= 0.
    """
    kl = F.kl_div(F.log_softmax(logits, dim=1), target.detach(), reduction="sum", log_target=True)
    return kl / (logits.numel() if reduction == "element_mean" else len(logits))


def mean_distribution(logits: list[Tensor]) -> Tensor:
    """(N, N) log of the mean row distribution of several similarity matrices."""
    stacked = torch.stack([F.log_softmax(item, dim=1) for item in logits])
    return torch.logsumexp(stacked, dim=0) - torch.log(stacked.new_tensor(len(logits)))

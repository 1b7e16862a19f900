"""Regression of a teacher's feature. Pure functions of tensors. N images, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.losses.precision import full_precision


@full_precision
def normalized_regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of ‖nrm(prediction) - nrm(target)‖² = 2 - 2 cos.

    Args:
        prediction, target: (N, D); no gradient reaches the target.

    Returns: scalar in [0, 4], 0 where all rows are parallel.
    Source: SimReg eq. 1, UCDvision/simreg, simreg.py; BYOL eq. 2.
    """
    return 2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1, eps=1e-12).mean()


@full_precision
def raw_regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all N x D elements (Regress in CompRess's comparison); target detached."""
    return F.mse_loss(prediction, target.detach())


@full_precision
def soft_cross_entropy_kl(teacher: Tensor, student: Tensor, tau: float) -> Tensor:
    """tau² KL(softmax(teacher / tau) ‖ softmax(student / tau)), mean over rows; the teacher is detached.

    Args:
        teacher, student: (N, classes) logits.
        tau: temperature, > 0.

    Source: Hinton et al., arXiv 1503.02531; SimReg eq. 3.
    """
    target = F.log_softmax(teacher.detach() / tau, dim=1)
    return tau**2 * F.kl_div(F.log_softmax(student / tau, dim=1), target, reduction="batchmean", log_target=True)


@full_precision
def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over rows of -log softmax(logits)[label], each row times the weight of its class if there are weights.

    Args:
        logits: (N, classes).
        labels: (N,).
        weights: (classes,), or None.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return losses.mean() if weights is None else (losses * torch.as_tensor(weights)[labels]).mean()

"""Contrastive and regression objectives. Pure functions of tensors. N images, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.losses.precision import full_precision


@full_precision
def nt_xent(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """NT-Xent over the 2N projections of two views, both directions, self-similarity removed.

    Args:
        a, b: (N, D) projections of the two views, N >= 2; normalised here.
        tau: temperature, > 0.

    Returns: scalar, the mean over 2N anchors.
    Source: SimCLR, as in NeurAI-Lab/DoGo, branch dogo, criterion/ntxent.py.
    """
    n = len(a)
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = z @ z.T / tau
    logits.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, partner)


@full_precision
def simsiam(pa: Tensor, pb: Tensor, za: Tensor, zb: Tensor) -> Tensor:
    """Negative cosine between the prediction of one view and the detached projection of the other.

    Args:
        pa, pb: (N, D) predictions; za, zb: (N, D) projections, detached here.

    Returns: scalar in [-1, 1], half the sum of both directions.
    Source: SimSiam eq. 2, facebookresearch/simsiam and NeurAI-Lab/DoGo criterion/simsiam_loss.py.
    """
    ab = F.cosine_similarity(pa, zb.detach(), dim=1).mean()
    ba = F.cosine_similarity(pb, za.detach(), dim=1).mean()
    return -0.5 * (ab + ba)

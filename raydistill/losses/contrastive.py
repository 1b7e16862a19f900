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
        pa, pb: (N, D) predictions.
        za, zb: (N, D) projections, detached here.

    Returns: scalar in [-1, 1], half the sum of both directions.
    Source: SimSiam eq. 2, facebookresearch/simsiam and NeurAI-Lab/DoGo criterion/simsiam_loss.py.
    """
    ab = F.cosine_similarity(pa, zb.detach(), dim=1).mean()
    ba = F.cosine_similarity(pb, za.detach(), dim=1).mean()
    return -0.5 * (ab + ba)


@full_precision
def info_nce(queries: Tensor, keys: Tensor, tau: float) -> Tensor:
    """Cross-entropy of each query against all keys, its own image's key being right, times 2 tau.

    Args:
        queries: (R, D), R a multiple of N: several blocks of N rows, each in the order of the keys.
        keys: (N, D); no gradient reaches them. Both are normalised here.
        tau: temperature, > 0.

    Returns: scalar, mean over R. Source: MoCo v3 section 3, facebookresearch/moco-v3, moco/builder.py.
    """
    logits = F.normalize(queries, dim=1) @ F.normalize(keys.detach(), dim=1).T / tau
    own = torch.arange(len(keys), device=keys.device).repeat(len(queries) // len(keys))
    return 2 * tau * F.cross_entropy(logits, own)


@full_precision
def masked_info_nce(middle: Tensor, output: Tensor, tau: float, same_view: bool = False) -> Tensor:
    """Intermediate rows against the final outputs of both views: SDSSL's L_isd on SimCLR.

    Args:
        middle: (L * 2N, D), L blocks of 2N rows: view 1's N images, then view 2's.
        output: (2N, D), rows as in a block; no gradient reaches them. Both are normalised here.
        tau: temperature, > 0.
        same_view: the target is the output of the same view, instead of the other one's; the output that is
            not the target but shows the same image is removed from the denominator.

    Returns: scalar, mean over all rows. Source: hagiss/SDSSL, pl_train_simclr.py; appendix C for same_view.
    """
    rows, blocks = len(output), len(middle) // len(output)
    logits = F.normalize(middle, dim=1) @ F.normalize(output.detach(), dim=1).T / tau
    same = torch.arange(rows, device=output.device)
    target, removed = (same, same.roll(rows // 2)) if same_view else (same.roll(rows // 2), same)
    logits = logits.scatter(1, removed.repeat(blocks)[:, None], -torch.inf)
    return F.cross_entropy(logits, target.repeat(blocks))

"""Effective rank of features, which tells collapse without labels."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ROWS = 8192


def effective_rank(features: Tensor) -> float:
    """Number of dimensions that features (N, D) use: exp of the entropy of their normalised singular values.

    It is 0 where all rows are equal, 1 where they lie on a line, and at most min(N - 1, D), where all directions vary
    alike. Of more than 8192 rows only the first count.

    Source: RankMe (arXiv 2210.02885, equations 1 and 2), after Roy and Vetterli, "The effective rank" (2007). The mean
    is removed first, unlike there: features after a ReLU share a large mean, which would hide everything else. They are
    not scaled to unit variance, since that would turn the rounding errors of collapsed dimensions into directions.

    Raises:
        ValueError: features that are not finite, or of another shape.
    """
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features of shape {tuple(features.shape)}; expected (N, D) with N >= 1")
    if not torch.isfinite(features).all():
        raise ValueError(f"{int((~torch.isfinite(features)).any(dim=1).sum())} rows of features are not finite")
    rows = features[:MAX_ROWS].detach().double()
    centred = rows - rows.mean(0)
    # What is left of equal rows is rounding in single precision.
    if centred.norm() <= 1e-6 * rows.norm():
        return 0.0
    # By the smaller Gram matrix, which is many times faster than a decomposition of the rows.
    gram = centred.T @ centred if centred.shape[1] < len(centred) else centred @ centred.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()

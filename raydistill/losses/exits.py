"""SSSD's loss over the exits of one network. Pure functions. N images, C classes, D dimensions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.losses.precision import full_precision

Distance = Literal["squared", "norm", "sum_where_positive"]


@full_precision
def exit_kl(shallow: Tensor, deepest: Tensor, tau: float, tau_squared: bool, detach: bool) -> Tensor:
    """KL(softmax(deepest / tau) ‖ softmax(shallow / tau)), mean over N; times tau² if asked.

    Args:
        shallow, deepest: (N, C) logits. The paper writes KL(shallow, deepest); all released relatives have the
            deepest as the target.
        tau: temperature, > 0.
        tau_squared: whether to multiply by tau².
        detach: no gradient reaches the deepest.
    """
    target = F.log_softmax((deepest.detach() if detach else deepest) / tau, dim=1)
    kl = F.kl_div(F.log_softmax(shallow / tau, dim=1), target, reduction="batchmean", log_target=True)
    return kl * tau**2 if tau_squared else kl


@full_precision
def feature_distance(shallow: Tensor, deepest: Tensor, form: Distance, detach: bool) -> Tensor:
    """Distance of a shallow feature from the deepest.

    Args:
        shallow, deepest: (N, D).
        form: `squared` is the mean over N of the squared L2 norm (the paper's formula). `norm` is the L2 norm of
            the whole batch's difference (ArchipLab's code, without its learned adapter). `sum_where_positive` is
            the sum of squares over entries where either is positive (luanyunteng's code).
        detach: no gradient reaches the deepest.
    """
    gap: Tensor = shallow - (deepest.detach() if detach else deepest)
    if form == "squared":
        return gap.square().sum(1).mean()
    if form == "norm":
        # The gradient of a norm at zero is not a number; an exit may equal the deepest exactly.
        norm: Tensor = torch.where(gap.any(), gap, gap + 1).norm() * gap.any()
        return norm
    return (gap.square() * ((shallow > 0) | (deepest > 0))).sum()

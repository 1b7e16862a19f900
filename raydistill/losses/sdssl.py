"""SDSSL's weight of the intermediate loss, as a function of progress."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "step"]


def alpha_at(step: int, total: int, alpha: float, schedule: Schedule, jump: float = 0.5) -> float:
    """Weight of the self-distillation term at one step, in [0, alpha].

    Args:
        step, total: optimisation step, and the number of steps.
        alpha: the largest weight.
        schedule: `cosine` (paper and code) is alpha (1 - cos(pi step / total)) / 2, 0 at the first step. `linear`
            is alpha step / total. `step` is 0, then alpha from the share `jump` of training on.
        jump: share of training before the weight jumps.

    Source: SDSSL section 3.3, hagiss/SDSSL, utils.py.
    """
    done = step / total
    if schedule == "cosine":
        return alpha * 0.5 * (1 - math.cos(math.pi * done))
    if schedule == "linear":
        return alpha * done
    return alpha if schedule == "constant" or done >= jump else 0.0

"""Weight of a loss term, as a function of progress: SDSSL's alpha, and DoGo's lambda."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "step"]


def weight_at(step: int, total: int, largest: float, schedule: Schedule, jump: float = 0.5) -> float:
    """Weight of a term at one step, in [0, largest].

    Args:
        step, total: optimisation step, and the number of steps.
        largest: the largest weight.
        schedule: `cosine` (SDSSL, paper and code) is largest (1 - cos(pi step / total)) / 2, 0 at the first step.
            `linear` is largest step / total. `step` is 0, then largest from the share `jump` of training on.
        jump: share of training before the weight jumps.

    Source: SDSSL section 3.3, hagiss/SDSSL, utils.py. DoGo's weight is constant as published.
    """
    done = step / total
    if schedule == "cosine":
        return largest * 0.5 * (1 - math.cos(math.pi * done))
    if schedule == "linear":
        return largest * done
    return largest if schedule == "constant" or done >= jump else 0.0

"""Momentum of a network that follows the trained one, as a function of the run's length. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

MAX_INITIAL_SHARE = 0.01  # of a momentum network's initial weights that may be left at the end of a run

# A window w gives m = 1 - 1/(wT) for T steps, so a constant momentum leaves m^T <= exp(-1/w) of the initial weights.
# On a cosine that rises to 1, 1 - m_t is (1 - m) (1 + cos(pi t/T))/2. These sum up to (1 - m)(T + 1)/2 over the steps
# t = 0 to T - 1, which leaves at most exp(-1/(2w)). So 1 % asks for w <= 1/(2 ln 100) = 0.108; 0.1 leaves 0.7 %.
SAFE_WINDOW = 0.1

MomentumWindow = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="share of the run's steps that the momentum network averages over: momentum is at most "
        "1 - 1 / (window * steps); none: momentum whatever the length",
    ),
]


@dataclass(frozen=True)
class Momentum:
    """Momentum m of target <- m target + (1 - m) source, at every step of a run.

    Args:
        setting: the name of the option that sets `largest`.
        largest: at the first step, in [0, 1]; lower where the window asks for it.
        window: share of the run's steps that the average spans; None: `largest` whatever the length.
        rises: to 1 on a half cosine over the run (BYOL, MoCo v3, SDSSL), else constant (MoCo v2).
    """

    setting: str
    largest: float
    window: float | None = None
    rises: bool = False

    def first(self, total: int) -> float:
        """The momentum at the first of `total` steps. A window of less than one step copies the trained network."""
        if self.window is None:
            return self.largest
        return min(self.largest, 1 - 1 / max(1.0, self.window * total))

    def at(self, step: int, total: int) -> float:
        """The momentum at a step, counted from 0, of `total` steps."""
        first = self.first(total)
        return 1 - (1 - first) * 0.5 * (1 + math.cos(math.pi * step / total)) if self.rises else first

    def initial_share(self, total: int) -> float:
        """Share of its initial weights in the momentum network after `total` steps: the product of all momenta."""
        return math.prod(self.at(step, total) for step in range(total))

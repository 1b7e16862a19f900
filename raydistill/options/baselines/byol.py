"""Options of BYOL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MomentumConfig


class BYOLConfig(MomentumConfig):
    """BYOL (arXiv 2006.07733) with the heads of SDSSL's released code."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.byol:BYOL"

    name: Literal["byol"] = "byol"
    projector_layers: int = Field(3, ge=2, description="3 in SDSSL's code, 2 in BYOL's paper")
    momentum: float = Field(0.996, ge=0, le=1, description="of the EMA at the first step; rises to 1 on a cosine")

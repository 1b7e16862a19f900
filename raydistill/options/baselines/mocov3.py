"""Options of MoCo v3."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MomentumConfig


class MoCoV3Config(MomentumConfig):
    """MoCo v3 (arXiv 2104.02057), the ViT form of the released code."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.mocov3:MoCoV3"

    name: Literal["mocov3"] = "mocov3"
    projector_layers: int = Field(3, ge=2, description="3 for ViT, 2 for ResNet-50")
    predictor_batchnorm: bool = Field(True, description="at the predictor's output; off for ResNet-50")
    tau: float = Field(0.2, gt=0, description="0.2 for ViT, 1.0 for ResNet-50")

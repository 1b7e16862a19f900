"""Options of SimReg with SSSD's exits."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.simreg import SimRegConfig


class SimRegExitsConfig(SimRegConfig):
    """SimReg from one or several teachers at all four exits of SSSD's ResNet."""

    implementation: ClassVar[str] = "raydistill.methods.hybrids.simreg_exits:SimRegExits"
    # Not `backbone`, as in SimReg: the distance between exits depends on the width of their features.
    comparable_loss: ClassVar[tuple[str, ...]] = (
        "stem",
        "head_depth",
        "head_width",
        "head_hidden",
        "bn_relu",
        "inference_layer",
        "bottleneck",
    )

    name: Literal["simreg_exits"] = "simreg_exits"  # type: ignore[assignment]
    backbone: str = Field("resnet10_w16", description="a ResNet of timm's or a narrow one, with four stages")
    bottleneck: Literal["conference", "journal"] = Field("conference", description="form of the shallow exits (SSSD)")
    alpha: float = Field(
        0.3, ge=0, le=1, description="1 - alpha weighs the regressions of the shallow exits (SSSD: 0.3); 1: none"
    )
    lambda_features: float = Field(0.003, ge=0, description="weight of the feature distances (SSSD: 0.003)")
    feature_distance: Literal["squared", "norm", "sum_where_positive"] = Field(
        "squared", description="mean squared L2 norm of a row; L2 norm of the batch; sum of squares where positive"
    )

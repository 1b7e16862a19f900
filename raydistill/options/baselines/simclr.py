"""Options of SimCLR."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, RecipeName


class SimCLRConfig(MethodConfig):
    """SimCLR as DoGo's released code has it (Linear without bias, BN, ReLU, Linear; tau_c 0.5)."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.simclr:SimCLR"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "hidden_dim", "sdssl_dim")

    name: Literal["simclr"] = "simclr"
    backbone: str = "resnet10_w16"
    tau_c: float = Field(0.5, gt=0, description="contrastive temperature")
    hidden_dim: int = Field(512, ge=1)
    projection_dim: int = Field(128, ge=1)
    recipe: RecipeName = "simclr"
    second_recipe: RecipeName | None = Field(None, description="of the second view; none: as the first")
    head: Literal["dogo", "sdssl"] = Field(
        "dogo", description="dogo: two layers; sdssl: three of sdssl_dim without bias, batch norm at the output"
    )
    sdssl_dim: int = Field(4096, ge=1, description="hidden width of the sdssl head")

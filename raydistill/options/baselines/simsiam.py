"""Options of SimSiam."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, RecipeName


class SimSiamConfig(MethodConfig):
    """SimSiam as DoGo's released code has it (three-layer projector with biases, two-layer predictor)."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.simsiam:SimSiam"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "predictor_dim")

    name: Literal["simsiam"] = "simsiam"
    backbone: str = "resnet10_w16"
    projection_dim: int = Field(2048, ge=1)
    predictor_dim: int = Field(512, ge=1)
    projector_layers: int = Field(3, ge=2, le=3, description="3 in branch dogo, 2 in branch main")
    recipe: RecipeName = "simsiam_dogo"

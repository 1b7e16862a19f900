"""Self-supervised baselines with a momentum encoder: BYOL, MoCo v2, MoCo v3."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, RecipeName


class BYOLConfig(MethodConfig):
    """BYOL (arXiv 2006.07733) with the heads of SDSSL's released code."""

    implementation: ClassVar[str] = "raydistill.methods.byol:BYOL"

    name: Literal["byol"] = "byol"
    backbone: str = "resnet10_w16"
    hidden_dim: int = Field(4096, ge=1, description="hidden width of projector and predictor")
    projection_dim: int = Field(256, ge=1)
    projector_layers: int = Field(3, ge=2, description="3 in SDSSL's code, 2 in BYOL's paper")
    momentum: float = Field(0.996, ge=0, le=1, description="of the EMA at the first step; rises to 1 on a cosine")
    recipes: tuple[RecipeName, RecipeName] = Field(("byol1", "byol2"), description="of the two views")
    encoder: Literal["student", "ema"] = Field(
        "student", description="which network is scored, exported, and teaches: the trained one or its average"
    )

    def follows_length(self) -> bool:
        return True


class MoCoV3Config(MethodConfig):
    """MoCo v3 (arXiv 2104.02057), the ViT form of the released code."""

    implementation: ClassVar[str] = "raydistill.methods.mocov3:MoCoV3"

    name: Literal["mocov3"] = "mocov3"
    backbone: str = "resnet10_w16"
    hidden_dim: int = Field(4096, ge=1, description="hidden width of projector and predictor")
    projection_dim: int = Field(256, ge=1)
    projector_layers: int = Field(3, ge=2, description="3 for ViT, 2 for ResNet-50")
    predictor_batchnorm: bool = Field(True, description="at the predictor's output; off for ResNet-50")
    tau: float = Field(0.2, gt=0, description="0.2 for ViT, 1.0 for ResNet-50")
    momentum: float = Field(0.99, ge=0, le=1, description="of the EMA at the first step; rises to 1 on a cosine")
    recipes: tuple[RecipeName, RecipeName] = Field(("byol1", "byol2"), description="of the two views")
    encoder: Literal["student", "ema"] = Field(
        "student", description="which network is scored, exported, and teaches: the trained one or its average"
    )

    def follows_length(self) -> bool:
        return True


class MoCoV2Config(MethodConfig):
    """MoCo v2 (arXiv 2003.04297): a queue of keys from a momentum encoder."""

    implementation: ClassVar[str] = "raydistill.methods.mocov2:MoCoV2"

    name: Literal["mocov2"] = "mocov2"
    backbone: str = "resnet10_w16"
    hidden_dim: int | None = Field(None, ge=1, description="none: the backbone's own width, as released")
    projection_dim: int = Field(128, ge=1)
    queue_size: int = Field(512, ge=1, description="keys; 65536 in the paper, less than the images there are")
    tau: float = Field(0.2, gt=0)
    momentum: float = Field(0.999, ge=0, le=1, description="of the EMA, constant")
    recipe: RecipeName = "moco2"

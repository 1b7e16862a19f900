"""Options of MoCo v2."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, RecipeName
from raydistill.options.momentum import Momentum, MomentumWindow


class MoCoV2Config(MethodConfig):
    """MoCo v2 (arXiv 2003.04297): a queue of keys from a momentum encoder."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.mocov2:MoCoV2"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "hidden_dim")

    name: Literal["mocov2"] = "mocov2"
    backbone: str = "resnet10_w16"
    hidden_dim: int | None = Field(None, ge=1, description="none: the backbone's own width, as released")
    projection_dim: int = Field(128, ge=1)
    queue_size: int = Field(512, ge=1, description="keys; 65536 in the paper, less than the images there are")
    tau: float = Field(0.2, gt=0)
    momentum: float = Field(0.999, ge=0, le=1, description="of the EMA, constant")
    momentum_window: MomentumWindow = None
    recipe: RecipeName = "moco2"

    def ema(self) -> Momentum:
        return Momentum("momentum", self.momentum, self.momentum_window)

    def follows_length(self) -> bool:
        return self.momentum_window is not None

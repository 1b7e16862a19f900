"""SDSSL."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import MethodConfig, RecipeName
from raydistill.options.baselines.byol import BYOLConfig
from raydistill.options.baselines.mocov3 import MoCoV3Config
from raydistill.options.baselines.simclr import SimCLRConfig
from raydistill.options.momentum import Momentum, MomentumWindow


class SDSSLConfig(MethodConfig):
    """SDSSL (arXiv 2111.12958): a ViT's intermediate blocks learn from its own last one."""

    implementation: ClassVar[str] = "raydistill.methods.sdssl:SDSSL"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "hidden_dim", "intermediate_dim")

    name: Literal["sdssl"] = "sdssl"
    backbone: str = Field("vit_w64_d4", description="a ViT: `vit_{tiny,small,base,wWIDTH}[_pPATCH][_dBLOCKS]`")
    framework: Literal["simclr", "byol", "mocov3"] = "mocov3"
    alpha: float = Field(0.8, ge=0, description="largest weight of L_isd: 0.8 (ViT-B/16), 0.6 (ViT-S/32)")
    alpha_schedule: Literal["cosine", "linear", "constant", "step"] = Field(
        "cosine", description="cosine and linear rise from 0 at the first step to alpha at the last"
    )
    alpha_step: float = Field(0.5, ge=0, le=1, description="share of training after which `step` jumps from 0 to alpha")
    beta: float = Field(1.0, ge=0, description="weight of L_pred; only frameworks with predictors have it")
    target_view: Literal["other", "same"] = Field("other", description="`same`: ablation of the paper's appendix C")
    layers: Literal["all", "last", "first", "every_second"] = Field(
        "all", description="which intermediate blocks are distilled; `last` and `first`: layer_count of them"
    )
    layer_count: int = Field(1, ge=1, description="of layers: last or first")
    tau: float = Field(0.2, gt=0, description="of the contrastive frameworks")
    hidden_dim: int = Field(4096, ge=1, description="of the last block's projector and of every predictor")
    intermediate_dim: int = Field(2048, ge=1, description="hidden width of the intermediate blocks' projectors")
    projection_dim: int = Field(256, ge=1)
    momentum: float = Field(0.996, ge=0, le=1, description="of the EMA teacher at the first step; rises to 1")
    momentum_window: MomentumWindow = None
    recipes: tuple[RecipeName, RecipeName] = Field(("byol1", "byol2"), description="of the two views")
    encoder: Literal["student", "ema"] = Field(
        "ema", description="which network is scored and exported; simclr has no EMA and takes the student"
    )

    @model_validator(mode="after")
    def _vit(self) -> SDSSLConfig:
        check_vit(self.backbone, "SDSSL")
        return self

    def ema(self) -> Momentum | None:
        if self.framework == "simclr":
            return None
        return Momentum("momentum", self.momentum, self.momentum_window, rises=True)

    def follows_length(self) -> bool:
        return self.framework != "simclr" or self.alpha_schedule != "constant"

    def baseline(self) -> MethodConfig:
        """The framework alone, alpha = beta = 0, scored by the same network."""
        common: dict[str, Any] = {"backbone": self.backbone, "stem": self.stem, "projection_dim": self.projection_dim}
        if self.framework == "simclr":
            first, second = self.recipes
            return SimCLRConfig(
                head="sdssl", sdssl_dim=self.hidden_dim, tau_c=self.tau, recipe=first, second_recipe=second, **common
            )
        momentum: dict[str, Any] = {
            "hidden_dim": self.hidden_dim,
            "momentum": self.momentum,
            "momentum_window": self.momentum_window,
            "recipes": self.recipes,
        }
        if self.framework == "byol":
            return BYOLConfig(encoder=self.encoder, **momentum, **common)
        return MoCoV3Config(tau=self.tau, encoder=self.encoder, **momentum, **common)


def check_vit(backbone: str, method: str) -> None:
    """Refuse a backbone that is no ViT. Raises: ValueError, which names the method that needs one."""
    if "vit" not in backbone:
        raise ValueError(f"backbone {backbone!r} is no ViT; {method} distils the class token of ViT blocks")

"""Options of SDSSL's blocks under SEED."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import MethodConfig, Output, RecipeName
from raydistill.options.sdssl import check_vit
from raydistill.options.seed import SEEDConfig


class SEEDBlocksConfig(MethodConfig):
    """SDSSL's blocks under SEED: the frozen teacher's similarities teach every block of a ViT."""

    implementation: ClassVar[str] = "raydistill.methods.hybrids.seed_blocks:SEEDBlocks"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "hidden_dim")

    name: Literal["seed_blocks"] = "seed_blocks"
    backbone: str = Field("vit_w64_d4", description="a ViT: `vit_{tiny,small,base,wWIDTH}[_pPATCH][_dBLOCKS]`")
    teacher: Output = Field("head", description="embed with the teacher's SSL head (SEED) or its backbone alone")
    alpha: float = Field(0.8, ge=0, description="largest weight of the blocks' loss; SDSSL: 0.8 or 0.6; 0: SEED")
    alpha_schedule: Literal["cosine", "linear", "constant", "step"] = Field(
        "cosine", description="cosine (SDSSL) and linear rise from 0 at the first step to alpha at the last"
    )
    alpha_step: float = Field(0.5, ge=0, le=1, description="share of training after which `step` jumps from 0 to alpha")
    layers: Literal["all", "last", "first", "every_second"] = Field(
        "all", description="which intermediate blocks are distilled; `last` and `first`: layer_count of them"
    )
    layer_count: int = Field(1, ge=1, description="of layers: last or first")
    tau_t: float = Field(0.01, gt=0, description="teacher temperature")
    tau_s: float = Field(0.2, gt=0, description="student temperature, of all blocks")
    queue_size: int = Field(512, ge=1, description="K of the one queue; less than the images there are")
    hidden_dim: int | None = Field(None, ge=1, description="of every projector; none: the backbone's width")
    own_positive: bool = Field(True, description="the teacher's embedding of the same image is a candidate")
    strategy: Literal["same", "cross"] = Field("same", description="the student sees the teacher's view, or another")
    recipe: RecipeName = "moco2"

    @model_validator(mode="after")
    def _vit(self) -> SEEDBlocksConfig:
        check_vit(self.backbone, "seed_blocks")
        return self

    def without_blocks(self) -> SEEDConfig:
        """SEED with the same student, teacher, queue and views."""
        shared = (set(SEEDConfig.model_fields) & set(type(self).model_fields)) - {"name"}
        return SEEDConfig(**{name: getattr(self, name) for name in shared})

    def follows_length(self) -> bool:
        return self.alpha_schedule != "constant"

    def baseline(self) -> MethodConfig:
        return self.without_blocks().baseline()

    def teacher_output(self) -> Output | None:
        return self.teacher

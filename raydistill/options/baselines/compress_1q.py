"""Options of CompRess with one queue, and the base of both forms."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class CompRessConfig(MethodConfig):
    """CompRess (arXiv 2010.14713): KL between similarities at one temperature, the own sample left out."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.compress_1q:CompRess"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone")
    queues: ClassVar[int]

    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    tau: float = Field(0.04, gt=0, description="common temperature")
    queue_size: int = Field(512, ge=1, description="128000 in the paper, less than the images there are")
    student_momentum: float | None = Field(
        0.999, ge=0, le=1, description="2q: EMA copy that fills the student's queue; none: the student itself"
    )
    head: Literal["none", "linear", "mlp4"] = Field(
        "linear", description="on the student; mlp4 is SimReg's; none only where it need not match the teacher (2q)"
    )
    recipe: RecipeName = "rrcflip"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher


class CompRess1qConfig(CompRessConfig):
    """CompRess with one queue: both networks are compared with the teacher's."""

    queues: ClassVar[int] = 1

    name: Literal["compress_1q"] = "compress_1q"

    @model_validator(mode="after")
    def _needs_a_head(self) -> CompRess1qConfig:
        if self.head == "none":
            raise ValueError("head none: with one queue the student must match the teacher's width; use linear or mlp4")
        return self

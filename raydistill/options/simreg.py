"""Options of SimReg."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class SimRegConfig(MethodConfig):
    """SimReg (arXiv 2201.05131): an MLP head on the student regresses the teacher's normalised feature."""

    implementation: ClassVar[str] = "raydistill.methods.simreg:SimReg"
    comparable_loss: ClassVar[tuple[str, ...]] = (
        "stem",
        "backbone",
        "head_depth",
        "head_width",
        "head_hidden",
        "bn_relu",
        "inference_layer",
    )

    name: Literal["simreg"] = "simreg"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    head_depth: int = Field(4, ge=1, le=8, description="linear layers; 1 is a linear head, 4 the paper's")
    head_width: float = Field(2.0, gt=0, description="hidden width of the odd layers, in student widths")
    head_hidden: Literal["alternating", "output"] = Field(
        "alternating", description="m, 2m, m, 2m, d (paper), or all hidden layers as wide as the output (table 2)"
    )
    bn_relu: Literal["all_hidden", "every_other"] = Field(
        "all_hidden", description="after every hidden layer (paper), or after the 1st, 3rd, ... (released code)"
    )
    views: Literal["same", "different", "eval"] = Field(
        "same", description="the teacher sees the student's view, another draw, or the plain image (cached)"
    )
    student_recipe: RecipeName = Field("weak", description="weak is the paper's default, moco2 its strong one")
    teacher_recipe: RecipeName = Field("weak", description="of views: different")
    normalize: bool = Field(True, description="off: mean squared error of the raw vectors")
    inference_layer: int = Field(0, ge=0, description="score and export after this many layers of the head")

    @model_validator(mode="after")
    def _consistent(self) -> SimRegConfig:
        if self.inference_layer > self.head_depth:
            raise ValueError(f"inference_layer = {self.inference_layer} with a head of {self.head_depth} layers")
        return self

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.student_recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def regresses(self) -> bool:
        return True

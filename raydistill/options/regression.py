"""Regression of a frozen teacher: SimReg, Regress, Regress-BN; and supervised distillation for reference."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName
from raydistill.options.peers import SimCLRConfig


class SimRegConfig(MethodConfig):
    """SimReg (arXiv 2201.05131): an MLP head on the student regresses the teacher's normalised feature."""

    implementation: ClassVar[str] = "raydistill.methods.simreg:SimReg"

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
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

    def teacher_output(self) -> Output | None:
        return self.teacher


class RegressConfig(MethodConfig):
    """Regress (CompRess's baseline): a linear head, mean squared error to the raw feature."""

    implementation: ClassVar[str] = "raydistill.methods.regress:Regress"
    batch_norm: ClassVar[bool] = False

    name: Literal["regress"] = "regress"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    recipe: RecipeName = "rrcflip"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

    def teacher_output(self) -> Output | None:
        return self.teacher


class RegressBNConfig(RegressConfig):
    """Regress-BN: both features through a batch norm without affine parameters first."""

    batch_norm: ClassVar[bool] = True

    name: Literal["regress_bn"] = "regress_bn"  # type: ignore[assignment]


class SupervisedKDConfig(MethodConfig):
    """Knowledge distillation with labels (SimReg eq. 3), for reference: it is not self-supervised.

    The teacher's classifier is a linear layer on its frozen features, trained beside the student.
    """

    implementation: ClassVar[str] = "raydistill.methods.supervised_kd:SupervisedKD"

    name: Literal["supervised_kd"] = "supervised_kd"
    backbone: str = "resnet10_w16"
    teacher: Output = "features"
    lambda_ce: float = Field(0.1, ge=0, le=1, description="weight of the labels; the teacher has 1 - lambda_ce")
    tau: float = Field(4.0, gt=0, description="temperature of both distributions; the KL is multiplied by tau squared")
    recipe: RecipeName = "rrcflip"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def label_source(self) -> LabelSource | None:
        return LabelSource(kind="true")

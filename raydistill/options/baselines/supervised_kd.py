"""Options of supervised distillation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class SupervisedKDConfig(MethodConfig):
    """Knowledge distillation with labels (SimReg eq. 3), for reference: it is not self-supervised.

    The teacher's classifier is a linear layer on its frozen features, trained beside the student.
    """

    implementation: ClassVar[str] = "raydistill.methods.baselines.supervised_kd:SupervisedKD"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone")

    name: Literal["supervised_kd"] = "supervised_kd"
    backbone: str = "resnet10_w16"
    teacher: Output = "features"
    lambda_ce: float = Field(0.1, ge=0, le=1, description="weight of the labels; the teacher has 1 - lambda_ce")
    tau: float = Field(4.0, gt=0, description="temperature of both distributions; the KL is multiplied by tau squared")
    recipe: RecipeName = "rrcflip"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def label_source(self) -> LabelSource | None:
        return LabelSource(kind="true")

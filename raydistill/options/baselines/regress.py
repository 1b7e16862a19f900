"""Options of Regress."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class RegressConfig(MethodConfig):
    """Regress (CompRess's baseline): a linear head, mean squared error to the raw feature."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.regress:Regress"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone")
    batch_norm: ClassVar[bool] = False

    name: Literal["regress"] = "regress"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    recipe: RecipeName = "rrcflip"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def regresses(self) -> bool:
        return True

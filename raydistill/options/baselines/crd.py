"""Options of CRD."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class CRDConfig(MethodConfig):
    """CRD (arXiv 1910.10699): contrast the teacher's embedding of the image with a memory of others."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.crd:CRD"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone")

    name: Literal["crd"] = "crd"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    embedding_dim: int = Field(128, ge=1, description="both networks are mapped here by a trained linear layer")
    negatives: int = Field(512, ge=1, description="queue of the teacher's embeddings; 16384 in the paper")
    tau: float = Field(0.07, gt=0)
    normalizer: Literal["first_batch", "none"] = Field(
        "none",
        description="Z of the critic: first_batch estimates it as CRD's code does; none: 1, as printed, where "
        "constant embeddings have the lower loss",
    )
    recipe: RecipeName = "moco2"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher

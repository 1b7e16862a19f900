"""Options of ClusterFit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import MethodConfig, PseudoLabelConfig, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class ClusterFitConfig(PseudoLabelConfig):
    """ClusterFit (arXiv 1912.03330): a plain network learns the cluster ids of the teacher's features."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.clusterfit:ClusterFit"

    name: Literal["clusterfit"] = "clusterfit"
    clusters: int = Field(50, ge=2, description="16000 on ImageNet")
    kmeans_iterations: int = Field(50, ge=1)
    recipe: RecipeName = "clusterfit"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

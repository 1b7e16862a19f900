"""Options of CC, cluster classification."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import RecipeName
from raydistill.options.baselines.clusterfit import ClusterFitConfig


class CCConfig(ClusterFitConfig):
    """CC, cluster classification (CompRess's baseline): ClusterFit with fewer clusters and iterations."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.cc:CC"

    name: Literal["cc"] = "cc"  # type: ignore[assignment]
    clusters: int = Field(50, ge=2, description="2000 on ImageNet")
    kmeans_iterations: int = Field(20, ge=1)
    recipe: RecipeName = "rrcflip"

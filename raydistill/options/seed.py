"""Options of SEED."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig
from raydistill.options.momentum import Momentum, MomentumWindow


class SEEDConfig(MethodConfig):
    """SEED (arXiv 2101.04731): the student matches the teacher's similarities to a queue."""

    implementation: ClassVar[str] = "raydistill.methods.seed:SEED"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "hidden_dim")

    name: Literal["seed"] = "seed"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("head", description="embed with the teacher's SSL head (paper) or its backbone alone")
    loss: Literal["seed", "l2", "kmeans", "online_clustering", "binary_contrastive", "seed_moco", "a5"] = Field(
        "seed", description="the method, or one of the paper's alternatives (table 4 and appendix A.5)"
    )
    tau_t: float = Field(0.01, gt=0, description="teacher temperature: 0.01 in the paper, 1e-4 in the code")
    tau_s: float = Field(0.2, gt=0, description="student temperature")
    queue_size: int = Field(512, ge=1, description="K; 65536 in the paper, less than the images there are")
    hidden_dim: int | None = Field(
        None, ge=1, description="of the student's head; none: the backbone's width, as released. 2048 is worth +2.3"
    )
    own_positive: bool = Field(True, description="the teacher's embedding of the same image is a candidate")
    strategy: Literal["same", "cross", "large_small_cross", "large_small"] = Field(
        "same", description="views, appendix A.3: (a) same, (b) cross, (c) large_small_cross, (d) large_small"
    )
    small_views: int = Field(6, ge=1, description="small patches an image, in strategies (c) and (d)")
    recipe: RecipeName = "moco2"
    clusters: int = Field(256, ge=2, description="of kmeans (4096 and 16384 in the paper) and online_clustering")
    label_seed: int = Field(0, ge=0, description="of the first centroids of kmeans")
    lambda_a: float = Field(1.0, ge=0, description="weight of the l2 term of a5")
    lambda_b: float = Field(1.0, ge=0, description="weight of the queue term of a5")
    normalizer: Literal["first_batch", "none"] = Field(
        "none",
        description="of binary_contrastive, Z of the critic: first_batch estimates it as CRD's code does; "
        "none: 1, as printed, where constant embeddings have the lower loss",
    )
    momentum: float = Field(0.999, ge=0, le=1, description="EMA of the student's own MoCo v2 in seed_moco")
    momentum_window: MomentumWindow = None

    @model_validator(mode="after")
    def _strategy_of_the_queue_losses(self) -> SEEDConfig:
        if self.strategy in ("large_small_cross", "large_small") and self.loss != "seed":
            raise ValueError(f"strategy {self.strategy} is defined for loss: seed, not for {self.loss}")
        return self

    def ema(self) -> Momentum | None:
        return Momentum("momentum", self.momentum, self.momentum_window) if self.loss == "seed_moco" else None

    def follows_length(self) -> bool:
        return self.loss == "seed_moco" and self.momentum_window is not None

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def label_source(self) -> LabelSource | None:
        return (
            LabelSource(kind="kmeans", clusters=self.clusters, seed=self.label_seed) if self.loss == "kmeans" else None
        )

"""Similarity distillation from a frozen teacher: SEED, CompRess, CRD."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName
from raydistill.options.peers import SimCLRConfig


class SEEDConfig(MethodConfig):
    """SEED (arXiv 2101.04731): the student matches the teacher's similarities to a queue."""

    implementation: ClassVar[str] = "raydistill.methods.seed:SEED"

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
    lambda_a: float = Field(1.0, ge=0, description="weight of the l2 term of a5")
    lambda_b: float = Field(1.0, ge=0, description="weight of the queue term of a5")
    momentum: float = Field(0.999, ge=0, le=1, description="EMA of the student's own MoCo v2 in seed_moco")

    @model_validator(mode="after")
    def _strategy_of_the_queue_losses(self) -> SEEDConfig:
        if self.strategy in ("large_small_cross", "large_small") and self.loss != "seed":
            raise ValueError(f"strategy {self.strategy} is defined for loss: seed, not for {self.loss}")
        return self

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

    def teacher_output(self) -> Output | None:
        return self.teacher

    def label_source(self) -> LabelSource | None:
        return LabelSource(kind="kmeans", clusters=self.clusters) if self.loss == "kmeans" else None


class CompRessConfig(MethodConfig):
    """CompRess (arXiv 2010.14713): KL between similarities at one temperature, the own sample left out."""

    implementation: ClassVar[str] = "raydistill.methods.compress:CompRess"
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
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

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


class CompRess2qConfig(CompRessConfig):
    """CompRess with two queues: each network is compared with its own."""

    queues: ClassVar[int] = 2

    name: Literal["compress_2q"] = "compress_2q"
    head: Literal["none", "linear", "mlp4"] = Field("none", description="on the student; mlp4 is SimReg's")


class CRDConfig(MethodConfig):
    """CRD (arXiv 1910.10699): contrast the teacher's embedding of the image with a memory of others."""

    implementation: ClassVar[str] = "raydistill.methods.crd:CRD"

    name: Literal["crd"] = "crd"
    backbone: str = "resnet10_w16"
    teacher: Output = Field("features", description="the teacher's backbone (paper) or its SSL head")
    embedding_dim: int = Field(128, ge=1, description="both networks are mapped here by a trained linear layer")
    negatives: int = Field(512, ge=1, description="queue of the teacher's embeddings; 16384 in the paper")
    tau: float = Field(0.07, gt=0)
    recipe: RecipeName = "moco2"

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem)

    def teacher_output(self) -> Output | None:
        return self.teacher

"""Options of DoGo."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from raydistill.options.base import MethodConfig, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig
from raydistill.options.baselines.simsiam import SimSiamConfig

Objective = Literal["simclr", "simsiam"]


class DoGoConfig(MethodConfig):
    """DoGo (arXiv 2104.09866): peers teach each other through their cross-view similarity matrices."""

    implementation: ClassVar[str] = "raydistill.methods.dogo:DoGo"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "hidden_dim", "predictor_dim")

    name: Literal["dogo"] = "dogo"
    backbones: tuple[str, ...] = Field(
        ("resnet10_w16", "resnet10_w16"), min_length=2, description="one per peer; the first is the student"
    )
    objectives: tuple[Objective, ...] = Field(
        ("simclr",), min_length=1, description="one for all peers, or one per peer"
    )
    lambda_kd: float = Field(100.0, ge=0, description="weight of the KL term of SimCLR peers")
    lambda_simsiam: float = Field(1.0, ge=0, description="weight of the KL term of SimSiam peers")
    lambda_schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="of both weights: constant as published; linear and cosine rise from 0 at the first step",
    )
    tau_kd: float = Field(0.1, gt=0, description="temperature of the similarity matrices")
    tau_c: float = Field(0.5, gt=0, description="contrastive temperature of SimCLR peers")
    kd_reduction: Literal["element_mean", "batchmean"] = Field(
        "element_mean", description="element_mean divides the KL by N*N (released code), batchmean by N"
    )
    kd_symmetric: bool = Field(False, description="also match the columns, and average (off in the paper)")
    kd_target: Literal["pairwise", "ensemble"] = Field(
        "pairwise", description="with more than two peers: mean of the KLs, or KL to the peers' mean"
    )
    simsiam_target: Literal["projection", "prediction"] = Field(
        "projection",
        description="what a SimSiam peer shows to another: projection (code), prediction (paper)",
    )
    recipe: RecipeName | None = Field(None, description="of every peer's views; none: each objective's own (code)")
    share_views: bool = Field(False, description="all peers see the same two views (off in paper and code)")
    hidden_dim: int = Field(512, ge=1, description="hidden width of SimCLR's head")
    projection_dim: int = Field(128, ge=1, description="output width of SimCLR's head")
    simsiam_dim: int = Field(2048, ge=1, description="width of SimSiam's projector")
    predictor_dim: int = Field(512, ge=1, description="hidden width of SimSiam's predictor")

    @model_validator(mode="after")
    def _one_objective_per_peer(self) -> DoGoConfig:
        if len(self.objectives) not in (1, len(self.backbones)):
            raise ValueError(
                f"objectives has {len(self.objectives)} entries for {len(self.backbones)} backbones; "
                "give one for all peers or one per peer"
            )
        if self.share_views and self.recipe is None and len(set(self.objectives)) > 1:
            raise ValueError(
                "share_views needs one objective for all peers, since each has its own recipe, or one recipe for all"
            )
        return self

    def peers(self) -> tuple[SimCLRConfig | SimSiamConfig, ...]:
        """One self-supervised method per peer."""
        objectives = self.objectives * len(self.backbones) if len(self.objectives) == 1 else self.objectives
        return tuple(map(self._peer, objectives, self.backbones))

    def _peer(self, objective: Objective, backbone: str) -> SimCLRConfig | SimSiamConfig:
        recipe: dict[str, Any] = {} if self.recipe is None else {"recipe": self.recipe}
        if objective == "simclr":
            return SimCLRConfig(
                **recipe,
                backbone=backbone,
                stem=self.stem,
                tau_c=self.tau_c,
                hidden_dim=self.hidden_dim,
                projection_dim=self.projection_dim,
            )
        return SimSiamConfig(
            **recipe,
            backbone=backbone,
            stem=self.stem,
            projection_dim=self.simsiam_dim,
            predictor_dim=self.predictor_dim,
        )

    def follows_length(self) -> bool:
        return self.lambda_schedule != "constant"

    def baseline(self) -> MethodConfig:
        """The student (first peer) trained alone."""
        return self.peers()[0]

    def student_backbone(self) -> str:
        return self.backbones[0]

    def student_recipes(self) -> tuple[RecipeName, RecipeName]:
        return self.peers()[0].student_recipes()

    def with_student_of(self, other: MethodConfig) -> MethodConfig:
        peers = (other.student_backbone(), *self.backbones[1:])
        return super().with_student_of(other).model_copy(update={"backbones": peers})

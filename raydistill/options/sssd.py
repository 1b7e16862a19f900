"""Options of SSSD."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.base import LabelKind, MethodConfig, PseudoLabelConfig, RecipeName
from raydistill.options.baselines.simclr import SimCLRConfig


class SSSDConfig(PseudoLabelConfig):
    """SSSD (WACV 2023): a four-exit ResNet learns cluster ids, its shallow exits also from its deepest."""

    implementation: ClassVar[str] = "raydistill.methods.sssd:SSSD"
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "bottleneck")

    name: Literal["sssd"] = "sssd"
    backbone: str = Field("resnet10_w16", description="a ResNet of timm's or a narrow one, with four stages")
    labels: LabelKind = Field("kmeans", description="random is the paper's control")
    clusters: int = Field(50, ge=2, description="K: 1000 on CIFAR-10, 500 on CIFAR-100, 5000 on ImageNet")
    bottleneck: Literal["conference", "journal"] = Field("conference", description="form of the shallow exits")
    alpha: float = Field(0.3, ge=0, le=1, description="1 - alpha weighs the shallow cross-entropies, alpha the KLs")
    lambda_features: float = Field(0.003, ge=0, description="weight of the feature distances")
    tau: float = Field(1.0, gt=0, description="temperature of the KLs: 1 as printed, 3 in BYOT's code")
    tau_squared: bool = Field(False, description="multiply the KLs by tau squared")
    deepest_ce: Literal["one", "one_minus_alpha"] = Field("one", description="weight of the deepest cross-entropy")
    feature_distance: Literal["squared", "norm", "sum_where_positive"] = Field(
        "squared", description="mean squared L2 norm of a row; L2 norm of the batch; sum of squares where positive"
    )
    detach_deepest: bool = Field(True, description="no gradient of KL and feature terms reaches the deepest exit")
    recipe: RecipeName = Field("cifar_sup", description="cifar_auto adds AutoAugment and Cutout")

    def baseline(self) -> MethodConfig:
        return SimCLRConfig(backbone=self.backbone, stem=self.stem, recipe=self.recipe)

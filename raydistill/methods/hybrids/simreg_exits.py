"""SimReg with SSSD's exits: each of a ResNet's four exits regresses the features of one or several frozen teachers.

L = R_4 + (1 - alpha) Σ R_i + lambda Σ ‖F_i - sg F_4‖², sums over the three shallow exits. R_i is SimReg's loss at
exit i: the mean over the teachers of ‖nrm g_ik(F_i) - nrm T_k‖².

From SimReg (arXiv 2201.05131): the regression, its heads g_ik, one for each teacher, and the views. From SSSD (WACV
2023): the exits, the weight 1 - alpha of what the shallow ones learn, and the distance to the deepest exit's detached
features. SSSD's cross-entropies and KLs have no counterpart: a teacher's features are no classes, so that there are
no clusters, no labels and no logits to compare. No paper has this method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from raydistill.losses.exits import feature_distance
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.methods.simreg import RegressionHeads, regression_views
from raydistill.models.backbones import Backbone
from raydistill.models.exits import Exit, ExitedResNet
from raydistill.options.hybrids.simreg_exits import SimRegExitsConfig


class SimRegExits(Method):
    """Four exits, each with a regression head for each teacher.

    Raises: ValueError for a backbone that has not the four stages of a ResNet.
    """

    def __init__(self, options: SimRegExitsConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.heads = RegressionHeads(options, backbone.dim, context)  # drawn where SimReg draws its own
        self.network = ExitedResNet(backbone, options.bottleneck)
        self.exit_heads = nn.ModuleList(RegressionHeads(options, backbone.dim, context) for _ in range(3))
        self.student_view, self.teacher_view, self.views = regression_views(options)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        options, features = self.options, self.network(batch.views[self.student_view])
        targets = [batch.gather(teacher(self.teacher_view, options.teacher)) for teacher in batch.teachers]
        losses = [
            heads.losses(feature, targets, batch.gather)
            for heads, feature in zip([*self._shallow_heads(), self.heads], features, strict=True)
        ]
        terms = {f"regression_{i}": torch.stack(each).mean() for i, each in enumerate(losses, 1)}
        if len(targets) > 1:
            terms |= {f"teacher_{k}": loss for k, loss in enumerate(losses[-1], 1)}
        *shallow, deepest = [batch.gather(feature) for feature in features]
        for i, feature in enumerate(shallow, 1):
            terms[f"feature_{i}"] = feature_distance(feature, deepest, options.feature_distance, detach=True)
        weights = {"regression": 1 - options.alpha, "feature": options.lambda_features}
        weighted = [weights[kind] * terms[f"{kind}_{i}"] for kind in weights for i in (1, 2, 3)]
        return {"loss": terms["regression_4"] + torch.stack(weighted).sum(), **terms}

    def regression(self, images: Tensor, outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of the deepest exit, as SimReg has them."""
        features = self.network.backbone(images)
        return [(head(features), target) for head, target in zip(self.heads, outputs, strict=True)]

    def encoders(self) -> dict[str, nn.Module]:
        """The backbone and the shallow exits, each with the layers of its first teacher's head that are kept."""
        shallow = {f"exit_{i + 1}": heads.kept(Exit(self.network, i)) for i, heads in enumerate(self._shallow_heads())}
        return {"student": self.heads.kept(self.network.backbone), **shallow}

    def _shallow_heads(self) -> Sequence[RegressionHeads]:
        return cast("Sequence[RegressionHeads]", self.exit_heads)

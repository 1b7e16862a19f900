"""SSSD (WACV 2023): a ResNet with four exits learns cluster ids; the shallow exits also learn from the deepest.

L = w CE(q4, y) + (1 - alpha) Σ CE(qi, y) + alpha Σ KL(sg q4 ‖ qi) + lambda Σ ‖F_i - sg F_4‖², sums over the
three shallow exits. No official code was released; options say where its relatives (BYOT) decide otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.exits import exit_kl, feature_distance
from raydistill.losses.regression import cross_entropy
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.exits import Exit, ExitedResNet
from raydistill.options.sssd import SSSDConfig


class SSSD(Method):
    """Four exits, each with a classifier of the pseudo labels."""

    def __init__(self, options: SSSDConfig, context: MethodContext) -> None:
        super().__init__()
        classes = len(context.class_counts)
        if classes < 2:
            raise ValueError(f"a classifier of {classes} classes; expected at least 2")
        self.options = options
        backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.network = ExitedResNet(backbone, options.bottleneck)
        self.classifiers = nn.ModuleList(nn.Linear(self.network.dim, classes) for _ in range(4))
        self.views = (View(options.recipe, 0),)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        assert batch.labels is not None
        features = self.network(batch.views[self.views[0]])
        logits = self.classify(features)
        gathered = [[batch.gather(rows) for rows in exits] for exits in (features, logits)]
        return self.combine(gathered[0], gathered[1], batch.gather(batch.labels))

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (N, classes) of the four exits' features."""
        return [classifier(feature) for classifier, feature in zip(self.classifiers, features, strict=True)]

    def combine(self, features: list[Tensor], logits: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of the four exits.

        Args:
            features: (N, dim) of each exit.
            logits: (N, classes) of each exit.
            labels: (N,).
        """
        options = self.options
        terms = {f"ce_{i}": cross_entropy(logit, labels) for i, logit in enumerate(logits, 1)}
        for i in (1, 2, 3):
            terms[f"kl_{i}"] = exit_kl(
                logits[i - 1], logits[3], options.tau, options.tau_squared, options.detach_deepest
            )
            terms[f"feature_{i}"] = feature_distance(
                features[i - 1], features[3], options.feature_distance, options.detach_deepest
            )
        deepest = 1 - options.alpha if options.deepest_ce == "one_minus_alpha" else 1.0
        weights = {"ce": 1 - options.alpha, "kl": options.alpha, "feature": options.lambda_features}
        shallow = [weights[kind] * terms[f"{kind}_{i}"] for kind in weights for i in (1, 2, 3)]
        return {"loss": deepest * terms["ce_4"] + torch.stack(shallow).sum(), **terms}

    def encoders(self) -> dict[str, nn.Module]:
        shallow = {f"exit_{i + 1}": Exit(self.network, i) for i in range(3)}
        return {"student": self.network.backbone, **shallow}

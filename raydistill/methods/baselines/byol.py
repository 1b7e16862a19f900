"""BYOL (arXiv 2006.07733): predict the momentum network's projection of the other view; no negatives.

L = 2 - 2 cos(pred(q_a), sg z_b) + 2 - 2 cos(pred(q_b), sg z_a).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.regression import normalized_regression
from raydistill.methods.base import Batch, MethodContext, StepInfo
from raydistill.methods.baselines._momentum import MomentumMethod
from raydistill.models.backbones import Backbone
from raydistill.models.ema import frozen_copy
from raydistill.models.heads import mlp_head
from raydistill.options.baselines.byol import BYOLConfig


class BYOL(MomentumMethod):
    """Online network with projector and predictor, momentum network with projector."""

    def __init__(self, options: BYOLConfig, context: MethodContext) -> None:
        super().__init__()
        hidden, out = options.hidden_dim, options.projection_dim
        self.momentum, self.encoder = options.ema(), options.encoder
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = mlp_head(self.backbone.dim, hidden, out, options.projector_layers, output_batchnorm=False)
        self.predictor = mlp_head(out, hidden, out, 2, output_batchnorm=False)
        self.target_backbone, self.target_projector = frozen_copy(self.backbone), frozen_copy(self.projector)
        self.views = (View(options.recipes[0], 0), View(options.recipes[1], 1))

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        a, b = (batch.views[view] for view in self.views)
        q_a, q_b = (batch.gather(self.predictor(self.projector(self.backbone(x)))) for x in (a, b))
        with torch.no_grad():
            z_a, z_b = (batch.gather(self.target_projector(self.target_backbone(x))) for x in (a, b))
        return {"loss": normalized_regression(q_a, z_b) + normalized_regression(q_b, z_a)}

    def average(self) -> tuple[Backbone, nn.Sequential]:
        return self.target_backbone, self.target_projector

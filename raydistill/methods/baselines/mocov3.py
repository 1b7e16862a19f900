"""MoCo v3 (arXiv 2104.02057): InfoNCE between predictions and the momentum network's keys of the other view.

L = ctr(q_a, k_b) + ctr(q_b, k_a), each multiplied by 2 tau; the negatives are the keys of the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.contrastive import info_nce
from raydistill.methods.base import Batch, MethodContext, StepInfo
from raydistill.methods.baselines._momentum import MomentumMethod
from raydistill.models.backbones import Backbone
from raydistill.models.ema import frozen_copy
from raydistill.models.heads import mlp_head
from raydistill.options.baselines.mocov3 import MoCoV3Config


class MoCoV3(MomentumMethod):
    """Query network with projector and predictor, momentum network with projector."""

    def __init__(self, options: MoCoV3Config, context: MethodContext) -> None:
        super().__init__()
        hidden, out = options.hidden_dim, options.projection_dim
        self.momentum, self.tau, self.encoder = options.ema(), options.tau, options.encoder
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = mlp_head(self.backbone.dim, hidden, out, options.projector_layers, output_batchnorm=True)
        self.predictor = mlp_head(out, hidden, out, 2, output_batchnorm=options.predictor_batchnorm)
        self.key_backbone, self.key_projector = frozen_copy(self.backbone), frozen_copy(self.projector)
        self.views = (View(options.recipes[0], 0), View(options.recipes[1], 1))

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        a, b = (batch.views[view] for view in self.views)
        q_a, q_b = (batch.gather(self.predictor(self.projector(self.backbone(x)))) for x in (a, b))
        with torch.no_grad():
            k_a, k_b = (batch.gather(self.key_projector(self.key_backbone(x))) for x in (a, b))
        return {"loss": info_nce(q_a, k_b, self.tau) + info_nce(q_b, k_a, self.tau)}

    def average(self) -> tuple[Backbone, nn.Sequential]:
        return self.key_backbone, self.key_projector

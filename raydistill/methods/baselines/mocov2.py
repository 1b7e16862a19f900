"""MoCo v2 (arXiv 2003.04297): tell the own key from a queue of other images' keys.

The momentum encoder moves and the queue takes the keys after the optimiser's step; the released code moves
the encoder before the next forward, which is the same sequence. Shuffling keys among workers (shuffle-BN) has
no counterpart here: on several GPUs batch norm is synchronised, so a worker's statistics betray nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.queues import moco
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.ema import follow, frozen_copy
from raydistill.models.heads import relu_head
from raydistill.models.queue import Queue, check_length
from raydistill.options.baselines.mocov2 import MoCoV2Config


class MoCoV2(Method):
    """Query network, momentum key network, queue."""

    def __init__(self, options: MoCoV2Config, context: MethodContext) -> None:
        super().__init__()
        check_length("method.queue_size", options.queue_size, context.images)
        self.options = options
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = relu_head(self.backbone.dim, options.hidden_dim, options.projection_dim)
        self.key_backbone = frozen_copy(self.backbone)
        self.key_projector = frozen_copy(self.projector)
        self.queue = Queue(options.queue_size, options.projection_dim)
        self.views = (View(options.recipe, 0), View(options.recipe, 1))
        self._keys: Tensor | None = None

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        queries = batch.gather(self.projector(self.backbone(batch.views[self.views[0]])))
        with torch.no_grad():
            keys = batch.gather(self.key_projector(self.key_backbone(batch.views[self.views[1]])))
        self._keys = nn.functional.normalize(keys.float(), dim=1)
        return {"loss": moco(queries, keys, self.queue.rows, self.options.tau)}

    def after_step(self, progress: StepInfo) -> None:
        momentum = self.options.ema().at(progress.step, progress.total)
        follow(self.key_backbone, self.backbone, momentum)
        follow(self.key_projector, self.projector, momentum)
        if self._keys is not None:
            self.queue.push(self._keys)
            self._keys = None

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}

    def head(self) -> nn.Sequential:
        return self.projector

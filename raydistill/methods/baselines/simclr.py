"""SimCLR (arXiv 2002.05709) in the form of DoGo's released code, or with the head of SDSSL's."""

from __future__ import annotations

from torch import Tensor

from raydistill.losses.contrastive import nt_xent
from raydistill.methods._peer import Embedding, Peer
from raydistill.methods.base import MethodContext
from raydistill.models.backbones import Backbone
from raydistill.models.heads import mlp_head, simclr_projector
from raydistill.options.baselines.simclr import SimCLRConfig


class SimCLR(Peer):
    """NT-Xent between two views; no predictor, so z and p are the projection."""

    predicts = False

    def __init__(self, options: SimCLRConfig, context: MethodContext) -> None:
        super().__init__(options.recipe, options.second_recipe)
        self.tau = options.tau_c
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = (
            simclr_projector(self.backbone.dim, options.hidden_dim, options.projection_dim)
            if options.head == "dogo"
            else mlp_head(self.backbone.dim, options.sdssl_dim, options.projection_dim, 3, output_batchnorm=True)
        )

    def embed(self, images: Tensor) -> Embedding:
        z = self.projector(self.backbone(images))
        return Embedding(z, z)

    def objective(self, a: Embedding, b: Embedding) -> Tensor:
        return nt_xent(a.z, b.z, self.tau)

"""SimCLR (arXiv 2002.05709) in the form of DoGo's released code."""

from __future__ import annotations

from torch import Tensor

from raydistill.losses.contrastive import nt_xent
from raydistill.methods.peer import Embedding, Peer
from raydistill.models.backbones import Backbone
from raydistill.models.heads import simclr_projector
from raydistill.options import SimCLROptions


class SimCLR(Peer):
    """NT-Xent between two views; no predictor, so z and p are the projection."""

    predicts = False

    def __init__(self, options: SimCLROptions, *, image_size: int) -> None:
        super().__init__(options.recipe)
        self.tau = options.tau_c
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=image_size)
        self.projector = simclr_projector(self.backbone.dim, options.hidden_dim, options.projection_dim)

    def embed(self, images: Tensor) -> Embedding:
        z = self.projector(self.backbone(images))
        return Embedding(z, z)

    def objective(self, a: Embedding, b: Embedding) -> Tensor:
        return nt_xent(a.z, b.z, self.tau)

"""SimSiam (arXiv 2011.10566) in the form of DoGo's released code."""

from __future__ import annotations

from torch import Tensor

from raydistill.losses.contrastive import simsiam
from raydistill.methods._peer import Embedding, Peer
from raydistill.methods.base import MethodContext
from raydistill.models.backbones import Backbone
from raydistill.models.heads import simsiam_predictor, simsiam_projector
from raydistill.options.baselines.simsiam import SimSiamConfig


class SimSiam(Peer):
    """Each view's prediction regresses the other's detached projection."""

    predicts = True

    def __init__(self, options: SimSiamConfig, context: MethodContext) -> None:
        super().__init__(options.recipe)
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = simsiam_projector(self.backbone.dim, options.projection_dim, options.projector_layers)
        self.predictor = simsiam_predictor(options.projection_dim, options.predictor_dim)

    def embed(self, images: Tensor) -> Embedding:
        z = self.projector(self.backbone(images))
        return Embedding(z, self.predictor(z))

    def objective(self, a: Embedding, b: Embedding) -> Tensor:
        return simsiam(a.p, b.p, a.z, b.z)

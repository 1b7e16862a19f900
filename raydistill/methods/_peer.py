"""Self-supervised objectives that can also take part in mutual learning."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.methods.base import Batch, Method, StepInfo
from raydistill.models.backbones import Backbone, with_blocks


class Embedding(NamedTuple):
    """One view through one network: projection z (N, D) and prediction p (N, D); equal without a predictor."""

    z: Tensor
    p: Tensor


class Peer(Method):
    """A two-view method whose embeddings another peer may look at."""

    backbone: Backbone
    projector: nn.Sequential
    predicts: bool

    def __init__(self, recipe: str, second_recipe: str | None = None) -> None:
        super().__init__()
        self.views = (View(recipe, 0), View(second_recipe or recipe, 1))

    def embed(self, images: Tensor) -> Embedding:
        """Embeddings of this worker's rows."""
        raise TypeError(f"{type(self).__name__} must define embed")

    def objective(self, a: Embedding, b: Embedding) -> Tensor:
        """The self-supervised loss on gathered embeddings of the two views."""
        raise TypeError(f"{type(self).__name__} must define objective")

    def embed_views(self, batch: Batch, views: tuple[View, ...]) -> tuple[Embedding, Embedding]:
        """Gathered embeddings of two views."""
        first, second = (self.embed(batch.views[view]) for view in views)
        return _gathered(first, batch), _gathered(second, batch)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        loss = self.objective(*self.embed_views(batch, self.views))
        return {"loss": loss}

    def encoders(self) -> dict[str, nn.Module]:
        return with_blocks(self.backbone)

    def head(self) -> nn.Sequential:
        return self.projector


def _gathered(embedding: Embedding, batch: Batch) -> Embedding:
    z = batch.gather(embedding.z)
    return Embedding(z, z if embedding.p is embedding.z else batch.gather(embedding.p))

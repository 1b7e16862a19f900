"""ClusterFit (arXiv 1912.03330) and CC (CompRess's baseline): a plain network learns the images' cluster ids.

L = CE(FC(S(x)), cluster of x), the clusters being those of a teacher's features of the plain images.
"""

from __future__ import annotations

from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.regression import cross_entropy
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.options.baselines.clusterfit import ClusterFitConfig


class ClusterFit(Method):
    """A backbone and a linear classifier of pseudo labels."""

    def __init__(self, options: ClusterFitConfig, context: MethodContext) -> None:
        super().__init__()
        classes = len(context.class_counts)
        if classes < 2:
            raise ValueError(f"a classifier of {classes} classes; expected at least 2")
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.classifier = nn.Linear(self.backbone.dim, classes)
        self.views = (View(options.recipe, 0),)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        (view,) = self.views
        assert batch.labels is not None
        logits = batch.gather(self.classifier(self.backbone(batch.views[view])))
        return {"loss": cross_entropy(logits, batch.gather(batch.labels))}

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}

"""Regress and Regress-BN, the regression baselines of CompRess (UMBCvision/CompRess) and of SimReg's table 3.

Regress: a linear head, mean squared error to the raw feature of the teacher. Regress-BN: both the teacher's
feature and the prediction through a batch norm without parameters first.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.regression import raw_regression
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.options.baselines.regress import RegressConfig


class Regress(Method):
    """Mean squared error through a linear head."""

    def __init__(self, options: RegressConfig, context: MethodContext) -> None:
        super().__init__()
        width = context.teacher_width(options.teacher)
        self.output = options.teacher
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projection = nn.Linear(self.backbone.dim, width)
        normalize = [nn.BatchNorm1d(width, affine=False) if options.batch_norm else nn.Identity() for _ in range(2)]
        self.student_norm, self.teacher_norm = normalize
        self.views = (View(options.recipe, 0),)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        (view,) = self.views
        prediction = self.student_norm(batch.gather(self.projection(self.backbone(batch.views[view]))))
        target = self.teacher_norm(batch.gather(batch.teachers[0](view, self.output)))
        return {"loss": raw_regression(prediction, target)}

    def regression(self, images: Tensor, outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pair of the prediction and the target; in Regress-BN both have passed their batch norm."""
        (target,) = outputs
        return [(self.student_norm(self.projection(self.backbone(images))), self.teacher_norm(target))]

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}

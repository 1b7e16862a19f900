"""SimReg (arXiv 2201.05131): regress the frozen teacher's normalised feature through an MLP head.

L = ‖nrm g(S(x_s)) - nrm T(x_t)‖², mean over the batch; with K teachers one head each, and the mean of the K.
The head is dropped afterwards, or kept up to `inference_layer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.regression import normalized_regression, raw_regression
from raydistill.methods.base import Batch, Gather, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.heads import HeadedBackbone
from raydistill.models.regression_head import first_layers, regression_head
from raydistill.options.simreg import SimRegConfig


class RegressionHeads(nn.ModuleList):
    """A head for each teacher that predicts its output from one feature, and SimReg's loss of the predictions.

    Args:
        options: of the heads and of the loss.
        dim: width of the feature.
        context: with the widths of the teachers.
    """

    def __init__(self, options: SimRegConfig, dim: int, context: MethodContext) -> None:
        super().__init__(
            regression_head(
                dim,
                width,
                depth=options.head_depth,
                width=options.head_width,
                hidden=options.head_hidden,
                bn_relu=options.bn_relu,
            )
            for width in context.teacher_widths(options.teacher)
        )
        self.options = options

    def losses(self, features: Tensor, targets: Sequence[Tensor], gather: Gather) -> list[Tensor]:
        """Return the loss of each teacher.

        Args:
            features: (n, dim) of this worker.
            targets: (N, D) of each teacher and all workers.
            gather: joins the rows of all workers.
        """
        distance = normalized_regression if self.options.normalize else raw_regression
        return [distance(gather(head(features)), target) for head, target in zip(self, targets, strict=True)]

    def kept(self, encoder: nn.Module) -> nn.Module:
        """The encoder, and behind it the layers of the first teacher's head that stay after training, if any."""
        if self.options.inference_layer == 0:
            return encoder
        head = self[0]
        assert isinstance(head, nn.Sequential)
        return HeadedBackbone(encoder, first_layers(head, self.options.inference_layer))


def regression_views(options: SimRegConfig) -> tuple[View, View, tuple[View, ...]]:
    """The student's view, the teachers' view, and those that have to be drawn."""
    student = View(options.student_recipe, 0)
    teacher = {"same": student, "different": View(options.teacher_recipe, 1), "eval": View("eval", 0)}[options.views]
    return student, teacher, (student,) if teacher in (student, View("eval", 0)) else (student, teacher)


class SimReg(Method):
    """One backbone, one regression head for each teacher."""

    def __init__(self, options: SimRegConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.heads = RegressionHeads(options, self.backbone.dim, context)
        self.student_view, self.teacher_view, self.views = regression_views(options)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        features = self.backbone(batch.views[self.student_view])
        targets = [batch.gather(teacher(self.teacher_view, self.options.teacher)) for teacher in batch.teachers]
        losses = self.heads.losses(features, targets, batch.gather)
        terms = {f"teacher_{i}": loss for i, loss in enumerate(losses, 1)} if len(losses) > 1 else {}
        return {"loss": torch.stack(losses).mean(), **terms}

    def regression(self, images: Tensor, outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        features = self.backbone(images)
        return [(head(features), target) for head, target in zip(self.heads, outputs, strict=True)]

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.heads.kept(self.backbone)}

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
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.heads import HeadedBackbone
from raydistill.models.regression_head import first_layers, regression_head
from raydistill.options.simreg import SimRegConfig


class SimReg(Method):
    """One backbone, one regression head for each teacher."""

    def __init__(self, options: SimRegConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.heads = nn.ModuleList(
            regression_head(
                self.backbone.dim,
                width,
                depth=options.head_depth,
                width=options.head_width,
                hidden=options.head_hidden,
                bn_relu=options.bn_relu,
            )
            for width in context.teacher_widths(options.teacher)
        )
        self.student_view = View(options.student_recipe, 0)
        self.teacher_view = {
            "same": self.student_view,
            "different": View(options.teacher_recipe, 1),
            "eval": View("eval", 0),
        }[options.views]
        drawn = (self.student_view,) if options.views == "eval" else (self.student_view, self.teacher_view)
        self.views = tuple(dict.fromkeys(drawn))

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        features = self.backbone(batch.views[self.student_view])
        distance = normalized_regression if self.options.normalize else raw_regression
        losses = [
            distance(batch.gather(head(features)), batch.gather(teacher(self.teacher_view, self.options.teacher)))
            for head, teacher in zip(self.heads, batch.teachers, strict=True)
        ]
        terms = {f"teacher_{i}": loss for i, loss in enumerate(losses, 1)} if len(losses) > 1 else {}
        return {"loss": torch.stack(losses).mean(), **terms}

    def regression(self, images: Tensor, outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        features = self.backbone(images)
        return [(head(features), target) for head, target in zip(self.heads, outputs, strict=True)]

    def encoders(self) -> dict[str, nn.Module]:
        if self.options.inference_layer == 0:
            return {"student": self.backbone}
        head = self.heads[0]
        assert isinstance(head, nn.Sequential)
        return {"student": HeadedBackbone(self.backbone, first_layers(head, self.options.inference_layer))}

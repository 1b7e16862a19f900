"""Supervised knowledge distillation (SimReg eq. 3; arXiv 1503.02531), for reference: it learns from labels.

L = lambda CE(student, label) + (1 - lambda) tau² KL(teacher ‖ student). A self-supervised teacher has no
classifier, so a linear one is trained on its frozen feature beside the student; its cross-entropy is a term
of its own and nothing of it reaches the student.
"""

from __future__ import annotations

from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.regression import cross_entropy, soft_cross_entropy_kl
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.options.baselines.supervised_kd import SupervisedKDConfig


class SupervisedKD(Method):
    """A classifier taught by labels and by a linear probe of the teacher."""

    def __init__(self, options: SupervisedKDConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        classes = len(context.class_counts)
        if classes < 2:
            raise ValueError(f"supervised distillation with {classes} classes; expected at least 2")
        width = context.teacher_width(options.teacher)
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.classifier = nn.Linear(self.backbone.dim, classes)
        self.teacher_classifier = nn.Linear(width, classes)
        self.views = (View(options.recipe, 0),)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        (view,) = self.views
        assert batch.labels is not None
        labels = batch.gather(batch.labels)
        student = batch.gather(self.classifier(self.backbone(batch.views[view])))
        teacher = batch.gather(self.teacher_classifier(batch.teachers[0](view, self.options.teacher)))
        terms = {
            "ce": cross_entropy(student, labels),
            "kd": soft_cross_entropy_kl(teacher, student, self.options.tau),
            "teacher_ce": cross_entropy(teacher, labels),
        }
        weight = self.options.lambda_ce
        return {"loss": weight * terms["ce"] + (1 - weight) * terms["kd"] + terms["teacher_ce"], **terms}

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}

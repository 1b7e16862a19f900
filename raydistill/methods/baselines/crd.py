"""CRD (arXiv 1910.10699): contrast the teacher's embedding of the image with a memory of others.

Both networks' features go through a trained linear layer to a common width; the memory is a queue of the
teacher's mapped features, where the paper has one entry per image.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.methods._critic import Critic
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.queue import Queue, check_length
from raydistill.options.baselines.crd import CRDConfig


class CRD(Method):
    """Student and teacher mapped to one space, each contrasted with a queue of the other's rows.

    As published the loss has two halves, one for each network; the map of the teacher learns from its own.
    """

    def __init__(self, options: CRDConfig, context: MethodContext) -> None:
        super().__init__()
        check_length("method.negatives", options.negatives, context.images)
        self.options = options
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.student_map = nn.Linear(self.backbone.dim, options.embedding_dim)
        self.teacher_map = nn.Linear(context.teacher_width(options.teacher), options.embedding_dim)
        self.teacher_queue = Queue(options.negatives, options.embedding_dim)
        self.student_queue = Queue(options.negatives, options.embedding_dim)
        self.student_critic = Critic(context.images, options.tau, options.normalizer)
        self.teacher_critic = Critic(context.images, options.tau, options.normalizer)
        self.views = (View(options.recipe, 0),)
        self._rows: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        (view,) = self.views
        student = batch.gather(self.student_map(self.backbone(batch.views[view])))
        teacher = batch.gather(self.teacher_map(batch.teachers[0](view, self.options.teacher)))
        self._rows = tuple(F.normalize(rows.detach().float(), dim=1) for rows in (student, teacher))  # type: ignore[assignment]
        terms = {
            "student": self.student_critic(student, teacher, self.teacher_queue.rows),
            "teacher": self.teacher_critic(teacher, student, self.student_queue.rows),
        }
        return {"loss": terms["student"] + terms["teacher"], **terms}

    def after_step(self, progress: StepInfo) -> None:
        if self._rows is not None:
            self.student_queue.push(self._rows[0])
            self.teacher_queue.push(self._rows[1])
            self._rows = None
        self.student_critic.after_step()
        self.teacher_critic.after_step()

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}

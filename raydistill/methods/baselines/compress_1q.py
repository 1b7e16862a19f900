"""CompRess (arXiv 2010.14713): the student's similarities to a queue follow the teacher's, by KL.

One queue: both networks are compared with the teacher's. Two queues: each with its own, the student's filled
by a momentum copy of it. Unlike SEED the own sample is no candidate and the temperature is common.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.queues import compress
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.ema import follow, frozen_copy
from raydistill.models.queue import Queue, TeacherBatch, check_length
from raydistill.models.regression_head import regression_head
from raydistill.options.baselines.compress_1q import CompRessConfig


class CompRess(Method):
    """Backbone with an optional head, the teacher's queue, and with two queues the student's."""

    def __init__(self, options: CompRessConfig, context: MethodContext) -> None:
        super().__init__()
        check_length("method.queue_size", options.queue_size, context.images)
        self.options = options
        width = context.teacher_width(options.teacher)
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.student_head = _head(options.head, self.backbone.dim, width)
        own_width = self.backbone.dim if options.head == "none" else width
        self.teacher_queue = Queue(options.queue_size, width, bound=(3 / width) ** 0.5)
        if options.queues == 2:
            self.student_queue = Queue(options.queue_size, own_width, bound=(3 / own_width) ** 0.5)
        self.ema = options.ema()
        if self.ema is not None:
            self.momentum_backbone = frozen_copy(self.backbone)
            self.momentum_head = frozen_copy(self.student_head)
        self.views = (View(options.recipe, 0),)
        self._rows: tuple[TeacherBatch, Tensor] | None = None

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        images = batch.views[self.views[0]]
        student = batch.gather(self.student_head(self.backbone(images)))
        teacher = batch.teachers[0].entries(self.views[0], self.options.teacher)
        kept = student.detach()
        if self.ema is not None:
            with torch.no_grad():
                kept = batch.gather(self.momentum_head(self.momentum_backbone(images)))
        return {"loss": self.compare(student, teacher, kept)}

    def compare(self, student: Tensor, teacher: TeacherBatch, kept: Tensor) -> Tensor:
        """Return the loss of embeddings.

        Args:
            student, teacher: (N, ·) of the global batch.
            kept: (N, ·), which the student's queue takes after the step.
        """
        self._rows = (teacher, F.normalize(kept.float(), dim=1))
        own = self.student_queue if self.options.queues == 2 else self.teacher_queue
        similar = self.teacher_queue.similarities(teacher)
        return compress(student, teacher.raw, own.rows, self.teacher_queue.rows, self.options.tau, similar)

    def after_step(self, progress: StepInfo) -> None:
        if self.ema is not None:
            momentum = self.ema.at(progress.step, progress.total)
            follow(self.momentum_backbone, self.backbone, momentum)
            follow(self.momentum_head, self.student_head, momentum)
        if self._rows is not None:
            teacher, student = self._rows
            self.teacher_queue.push(teacher)
            if self.options.queues == 2:
                self.student_queue.push(student)
            self._rows = None

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.backbone}


def _head(kind: str, dim: int, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.Linear(dim, width) if kind == "linear" else regression_head(dim, width, depth=4)

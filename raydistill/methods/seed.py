"""SEED (arXiv 2101.04731): the student's similarities to a queue of teacher embeddings follow the teacher's.

L = -(1/N) Σ_i Σ_j p_T(j) log p_S(j) over the queue and the teacher's embedding of the same image, softmax at
tau_t and tau_s. The batch enters the queue after the step, so other images of the batch are no candidates.
View strategies (a) to (d) are those of appendix A.3, the alternatives those of table 4 and appendix A.5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.queues import moco, seed_loss
from raydistill.methods._seed_alternatives import Alternative, make_alternative
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone, with_blocks
from raydistill.models.ema import follow, frozen_copy
from raydistill.models.heads import HeadedBackbone, relu_head
from raydistill.models.queue import Queue, TeacherBatch, check_length
from raydistill.options.seed import SEEDConfig


class SEED(Method):
    """Backbone with a two-layer head as wide as the teacher's output, and a queue of the teacher's embeddings.

    Raises: ValueError for a queue longer than the data or a teacher without the output that is asked for.
    """

    def __init__(self, options: SEEDConfig, context: MethodContext) -> None:
        super().__init__()
        check_length("method.queue_size", options.queue_size, context.images)
        self.options = options
        width = context.teacher_width(options.teacher)
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.projector = relu_head(self.backbone.dim, options.hidden_dim, width)
        self.queue = Queue(options.queue_size, width)
        self.alternative: Alternative | None = make_alternative(options, context, self.backbone.dim, width)
        self.large = View(options.recipe, 0)
        self.student_view = View(options.recipe, 1) if options.strategy == "cross" else self.large
        patched = options.strategy in ("large_small_cross", "large_small")
        self.small = tuple(View("swav_small", draw) for draw in range(options.small_views if patched else 0))
        if options.strategy == "large_small":
            self.small_queue = Queue(options.queue_size, width)
        if options.loss == "seed_moco":
            self.key_backbone, self.key_projector = frozen_copy(self.backbone), frozen_copy(self.projector)
            self.moco_queue = Queue(options.queue_size, width)
            self.key_view = View(options.recipe, 2)
        extra = (self.key_view,) if options.loss == "seed_moco" else ()
        self.views = tuple(dict.fromkeys((self.large, self.student_view, *self.small, *extra)))
        self._rows: dict[str, Tensor | TeacherBatch] = {}

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        teacher = batch.teachers[0].entries(self.large, self.options.teacher)
        features = self.backbone(batch.views[self.student_view])
        self._rows["queue"] = teacher
        if self.alternative is not None:
            terms: dict[str, Tensor] = self.alternative(features, self.projector, teacher, self.queue, batch)
            return terms
        large = self.against_queue(batch.gather(self.projector(features)), teacher)
        if self.options.loss == "seed_moco":
            own = self._moco(features, batch)
            return {"loss": large + own, "seed": large, "moco": own}
        if not self.small:
            return {"loss": large}
        small = self._small(batch, teacher)
        return {"loss": large + small, "large": large, "small": small}

    def against_queue(self, student: Tensor, teacher: TeacherBatch, queue: Queue | None = None) -> Tensor:
        """Return the loss of embeddings against a queue.

        Args:
            student, teacher: (N, D) of the global batch.
            queue: None: the main queue.
        """
        options, queue = self.options, queue or self.queue
        similar = queue.similarities(teacher)
        own = options.own_positive
        return seed_loss(student, teacher.raw, queue.rows, options.tau_s, options.tau_t, own, similar)

    def _small(self, batch: Batch, large_teacher: TeacherBatch) -> Tensor:
        """The small patches' loss, averaged over all of them: against the teacher's large view (c) or its own (d)."""
        students = [batch.gather(self.projector(self.backbone(batch.views[view]))) for view in self.small]
        if self.options.strategy == "large_small_cross":
            return torch.stack([self.against_queue(student, large_teacher) for student in students]).mean()
        teachers = [batch.teachers[0].entries(view, self.options.teacher) for view in self.small]
        self._rows["small_queue"] = teachers[0]
        pairs = zip(students, teachers, strict=True)
        return torch.stack([self.against_queue(s, t, self.small_queue) for s, t in pairs]).mean()

    def _moco(self, features: Tensor, batch: Batch) -> Tensor:
        """The student's own MoCo v2 loss, with its key network and queue."""
        with torch.no_grad():
            keys = batch.gather(self.key_projector(self.key_backbone(batch.views[self.key_view])))
        self._rows["moco_queue"] = F.normalize(keys.detach().float(), dim=1)
        return moco(batch.gather(self.projector(features)), keys, self.moco_queue.rows, self.options.tau_s)

    def after_step(self, progress: StepInfo) -> None:
        if (ema := self.options.ema()) is not None:
            momentum = ema.at(progress.step, progress.total)
            follow(self.key_backbone, self.backbone, momentum)
            follow(self.key_projector, self.projector, momentum)
        for name, rows in self._rows.items():
            getattr(self, name).push(rows)
        self._rows = {}
        if self.alternative is not None:
            self.alternative.after_step()

    def encoders(self) -> dict[str, nn.Module]:
        """The backbone, with its head what the paper's k-NN compares, and a ViT after each of its blocks."""
        headed = HeadedBackbone(self.backbone, self.projector)
        return {"student": self.backbone, "head": headed, **with_blocks(self.backbone)}

    def head(self) -> nn.Sequential:
        return self.projector

"""SEED's alternatives (table 4 and appendix A.5 of arXiv 2101.04731), each a loss in place of SEED's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.losses.queues import centroid_cross_entropy, seed_loss, squared_distance
from raydistill.losses.regression import cross_entropy
from raydistill.methods._critic import Critic
from raydistill.methods.base import Batch, MethodContext
from raydistill.models.queue import Queue, TeacherBatch
from raydistill.options.seed import SEEDConfig

CENTROID_MOMENTUM = 0.9


class Alternative(nn.Module):
    """A loss in place of SEED's own.

    `forward` takes the student's features (n, m) of this worker, its projector (m -> D), the teacher's embeddings
    (N, D) of all workers, the queue of the teacher, and the batch. It returns the loss and its terms by name.
    """

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        raise TypeError(f"{type(self).__name__} must define forward")

    def after_step(self) -> None:
        """Move what is not moved by gradients."""


class L2(Alternative):
    """Squared distance of the normalised embeddings."""

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        return {"loss": squared_distance(batch.gather(projector(features)), teacher.raw)}


class BinaryContrastive(Alternative):
    """CRD's binary form, the queue's entries as negatives."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        return {"loss": self.critic(batch.gather(projector(features)), teacher.raw, queue.rows)}

    def after_step(self) -> None:
        self.critic.after_step()


class A5(Alternative):
    """lambda_a ‖z_T - z_S‖² + lambda_b times SEED's cross-entropy without the own positive (appendix A.5)."""

    def __init__(self, options: SEEDConfig) -> None:
        super().__init__()
        self.options = options

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        options = self.options
        student = batch.gather(projector(features))
        near = squared_distance(student, teacher.raw)
        similar = queue.similarities(teacher)
        far = seed_loss(student, teacher.raw, queue.rows, options.tau_s, options.tau_t, False, similar)
        return {"loss": options.lambda_a * near + options.lambda_b * far, "l2": near, "queue": far}


class KMeans(Alternative):
    """Cross-entropy with the clusters of the teacher's embeddings of plain images.

    The paper draws images uniformly over clusters. The stream is shared, so each image is weighted by
    N / (K n_c) instead, which has the same expectation.
    """

    weights: Tensor

    def __init__(self, dim: int, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, len(counts))
        sizes = torch.tensor(counts, dtype=torch.float32)
        self.register_buffer("weights", sizes.sum() / (len(counts) * sizes.clamp(min=1)), persistent=False)

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {
            "loss": cross_entropy(batch.gather(self.classifier(features)), batch.gather(batch.labels), self.weights)
        }


class OnlineClustering(Alternative):
    """Cross-entropy with the nearest of centroids that follow the teacher's embeddings of each batch.

    A centroid moves by `CENTROID_MOMENTUM` towards the mean of its rows; the paper gives no rate.
    """

    centroids: Tensor

    def __init__(self, clusters: int, width: int, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.register_buffer("centroids", F.normalize(torch.randn(clusters, width), dim=1))
        self._moved: Tensor | None = None

    def forward(
        self, features: Tensor, projector: Callable[[Tensor], Tensor], teacher: TeacherBatch, queue: Queue, batch: Batch
    ) -> dict[str, Tensor]:
        assigned = (teacher.rows @ self.centroids.T).argmax(1)
        self._moved = self._follow(teacher.rows, assigned)
        student = batch.gather(projector(features))
        return {"loss": centroid_cross_entropy(student, self.centroids, assigned, self.tau)}

    @torch.no_grad()
    def _follow(self, rows: Tensor, assigned: Tensor) -> Tensor:
        member = F.one_hot(assigned, len(self.centroids)).to(rows.dtype)
        counts = member.sum(0)[:, None]
        moved = self.centroids.lerp(member.T @ rows / counts.clamp(min=1), 1 - CENTROID_MOMENTUM)
        return torch.where(counts > 0, F.normalize(moved, dim=1), self.centroids)

    def after_step(self) -> None:
        if self._moved is not None:
            self.centroids.copy_(self._moved)
            self._moved = None


def make_alternative(options: SEEDConfig, context: MethodContext, dim: int, width: int) -> Alternative | None:
    """Make the loss that stands in for SEED's; None for SEED's own, alone or beside MoCo v2's.

    Args:
        options: of the method.
        context: what the method is built for.
        dim: width of the student's features.
        width: width of the teacher's embeddings.
    """
    if options.loss == "l2":
        return L2()
    if options.loss == "a5":
        return A5(options)
    if options.loss == "binary_contrastive":
        return BinaryContrastive(Critic(context.images, options.tau_s, options.normalizer))
    if options.loss == "kmeans":
        return KMeans(dim, context.class_counts)
    if options.loss == "online_clustering":
        return OnlineClustering(options.clusters, width, options.tau_s)
    return None

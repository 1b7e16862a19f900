"""Losses against a queue of embeddings. Pure functions. N images, D dimensions, K entries of the queue."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.losses.precision import full_precision


@full_precision
def seed_loss(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    tau_s: float,
    tau_t: float,
    own_positive: bool = True,
    similar: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between the teacher's and the student's similarities to the queue.

    Args:
        student, teacher: (N, D) embeddings, normalised here; no gradient reaches the teacher.
        queue: (K, D) unit vectors, without this batch.
        tau_s, tau_t: temperatures of student and teacher, > 0.
        own_positive: the teacher's embedding of the same image is candidate 0; other images of the batch never are.
        similar: (N, K) cosines of teacher and queue, where they are known; None: computed here.

    Returns: scalar, mean over N of -Σ_j p_T(j) log p_S(j).
    Source: SEED eq. 5 to 7, jacobswan1/SEED, seed/builder.py and tools/utils.py.
    """
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1)
    logits_s, logits_t = student @ queue.T, teacher @ queue.T if similar is None else similar
    if own_positive:
        logits_s = torch.cat([(student * teacher).sum(1, keepdim=True), logits_s], 1)
        logits_t = torch.cat([(teacher * teacher).sum(1, keepdim=True), logits_t], 1)
    target = F.softmax(logits_t / tau_t, dim=1)
    return -(target * F.log_softmax(logits_s / tau_s, dim=1)).sum(1).mean()


@full_precision
def moco(queries: Tensor, keys: Tensor, queue: Tensor, tau: float) -> Tensor:
    """InfoNCE with one positive key each and the queue as negatives.

    Args:
        queries, keys: (N, D), normalised here; no gradient reaches the keys.
        queue: (K, D) unit vectors.
        tau: temperature, > 0.

    Returns: scalar. Source: MoCo eq. 1, facebookresearch/moco, moco/builder.py.
    """
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys.detach(), dim=1)
    logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


@full_precision
def compress(
    student: Tensor,
    teacher: Tensor,
    student_queue: Tensor,
    teacher_queue: Tensor,
    tau: float,
    similar: Tensor | None = None,
) -> Tensor:
    """KL between the networks' similarities, each to its queue, at one temperature; batch mean.

    Args:
        student, teacher: (N, D_s) and (N, D_t), normalised here; no gradient reaches the teacher.
        student_queue, teacher_queue: (K, D_s) and (K, D_t); entry k of both belongs to the same image. With one
            queue both are the teacher's.
        tau: temperature, > 0.
        similar: (N, K) cosines of teacher and its queue, where they are known; None: computed here.

    Returns: scalar >= 0. Source: CompRess eq. 1 and 2, UMBCvision/CompRess, nn/compress_loss.py.
    """
    own = F.normalize(student, dim=1) @ student_queue.T / tau
    if similar is None:
        similar = F.normalize(teacher.detach(), dim=1) @ teacher_queue.T
    target = similar / tau
    return F.kl_div(F.log_softmax(own, 1), F.log_softmax(target, 1), reduction="batchmean", log_target=True)


@full_precision
def binary_contrastive(
    student: Tensor, teacher: Tensor, queue: Tensor, tau: float, images: int, log_z: Tensor | float = 0.0
) -> Tensor:
    """Tell the teacher's embedding of the own image from those of others: -log h⁺ - Σ_k log(1 - h_k).

    h(s, d) = e^{s·d/tau}/Z / (e^{s·d/tau}/Z + K/M) with K negatives of M images, which is CRD's critic; the K
    negatives stand for K times their expectation.

    Args:
        student, teacher: (N, D), normalised here; no gradient reaches the teacher.
        queue: (K, D) unit vectors, the negatives.
        tau: temperature, > 0.
        images: M, the number of training images.
        log_z: log Z, as `log_normalizer` estimates it (released code); 0: Z = 1, as printed. With Z = 1 nearly all
            negatives have an h close to 1, and the loss of constants is below that of embeddings that spread out.

    Returns: scalar >= 0, mean over N. Source: CRD eq. 18 and 19; HobbitLong/RepDistiller, crd/memory.py and
    crd/criterion.py; SEED, table 4 (binary contrastive).
    """
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1)
    prior = math.log(len(queue) / max(images, 1)) + log_z
    positive = (student * teacher).sum(1) / tau - prior
    negative = student @ queue.T / tau - prior
    return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()


@torch.no_grad()
@full_precision
def log_normalizer(student: Tensor, teacher: Tensor, queue: Tensor, tau: float, images: int) -> Tensor:
    """Estimate log Z of CRD's critic: Z is M times the mean of e^{s·d/tau} over the own and the K other embeddings.

    So h of a random negative is about 1/(1 + K).

    Args:
        student, teacher: (N, D), normalised here.
        queue: (K, D) unit vectors, the negatives.
        tau: temperature, > 0.
        images: M, the number of training images.

    Returns: scalar, without gradient. Source: HobbitLong/RepDistiller, crd/memory.py.
    """
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    logits = torch.cat([(student * teacher).sum(1, keepdim=True), student @ queue.T], 1) / tau
    return logits.flatten().logsumexp(0) + math.log(max(images, 1) / logits.numel())


@full_precision
def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over N of ‖nrm(student) - nrm(teacher)‖², in [0, 4]; the teacher is detached. SEED, table 4 (l2)."""
    gap = F.normalize(student, dim=1) - F.normalize(teacher.detach(), dim=1)
    return gap.square().sum(1).mean()


@full_precision
def centroid_cross_entropy(student: Tensor, centroids: Tensor, assigned: Tensor, tau: float) -> Tensor:
    """Cross-entropy of the student's similarities to centroids with the teacher's assignment.

    Args:
        student: (N, D), normalised here.
        centroids: (C, D) unit vectors.
        assigned: (N,) indices of centroids.
        tau: temperature, > 0.

    Returns: scalar. Source: SEED, appendix A (online clustering).
    """
    return F.cross_entropy(F.normalize(student, dim=1) @ centroids.T / tau, assigned)

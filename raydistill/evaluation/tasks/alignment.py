"""Alignment and uniformity of features on the unit sphere, and their difference D (SDSSL, figures 6 and 7).

Sources: Wang and Isola (arXiv 2005.10242, `align_loss` and `uniform_loss` of their ssnl/align_uniform); SDSSL's own
measurement, `uni_ali.py` in the history of hagiss/SDSSL (271692d). There as here, a positive pair is two augmented
views of one image, whatever its class, and the other pairs are all those of different images in the first view. No
labels are needed. SDSSL measures with the augmentations that the network was trained with. Here all networks see
the same two random crops, so that those of different methods can be compared.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.evaluation.features import embed
from raydistill.evaluation.online import INSTANCE_VIEWS, crops, has_room
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError

SHARPNESS = 2.0  # t of the uniformity
CHUNK_NUMBERS = 2**22  # distances that are held at a time


def score(subject: Subject) -> Findings:
    """Alignment, uniformity and D of the test images. They are squared distances and a logarithm, no shares.

    Raises:
        TaskError: fewer than two images, or features that are not finite.
    """
    dataset = subject.images()
    keep = has_room(subject.encoder, dataset, subject.device)
    first, second = (
        embed(subject.encoder, crops(dataset, dataset.test, view, subject.device), subject.device, keep=keep)
        for view in INSTANCE_VIEWS
    )
    return Findings(alignment_scores(first, second))


def alignment_scores(first: Tensor, second: Tensor) -> dict[str, float]:
    """Scores of two views (N, D) of the same images, by metric.

    `test_alignment` is the mean squared distance of the two views of an image (gamma = 2, lower is closer), and
    `test_alignment_random` that of two images in the first view. `test_alignment_difference` is D, the second minus
    the first: higher is better. `test_uniformity` is the uniformity of the first view; the more negative, the more
    evenly the features are spread.

    Raises:
        TaskError: fewer than two images, features that are not finite, or views of different shapes.
    """
    if first.shape != second.shape:
        raise TaskError(f"views of shapes {tuple(first.shape)} and {tuple(second.shape)}; they must agree")
    one, other = on_sphere(first), on_sphere(second)
    positive = (one - other).square().sum(1).mean().item()
    random = mean_square_distance(one)
    return {
        "test_alignment": positive,
        "test_uniformity": uniformity(one),
        "test_alignment_random": random,
        "test_alignment_difference": random - positive,
    }


def on_sphere(features: Tensor) -> Tensor:
    """Features (N, D) scaled to unit length, in float64; rows of zeros stay zeros.

    Raises:
        TaskError: fewer than two rows, or rows that are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise TaskError(f"features of shape {tuple(features.shape)}; expected (N, D) of at least 2 images")
    bad = int((~torch.isfinite(features)).any(dim=1).sum())
    if bad:
        raise TaskError(f"features of {bad} of {len(features)} images are not finite")
    rows = features.detach().double()
    largest = rows.abs().amax(dim=1, keepdim=True)
    return F.normalize(rows / largest.where(largest > 0, 1.0), dim=1)


def mean_square_distance(rows: Tensor) -> float:
    """Mean squared distance over all pairs of different rows (N, D), N >= 2.

    It is 2 N / (N - 1) times the mean squared distance from the centre: for rows of unit length
    2 N / (N - 1) (1 - |mean|^2), since the N pairs of a row with itself have distance 0.
    """
    return 2 * (rows - rows.mean(0)).square().sum().item() / (len(rows) - 1)


def uniformity(rows: Tensor, sharpness: float = SHARPNESS) -> float:
    """Logarithm of the mean of exp(-t d^2) over all pairs of different rows (N, D), d their distance, t = sharpness.

    Source: Wang and Isola, L_uniform, with their usual t = 2. It lies between -4 t and 0 for rows of unit length.
    """
    count = len(rows)
    lengths = rows.square().sum(1)
    step = max(1, CHUNK_NUMBERS // count)
    sums = []
    for start in range(0, count, step):
        # Each pair once: a chunk meets itself and what follows.
        part, rest = rows[start : start + step], rows[start:]
        square = lengths[start : start + step, None] + lengths[None, start:] - 2 * part @ rest.T
        exponents = -sharpness * square.clamp(min=0)
        later = torch.ones_like(exponents, dtype=torch.bool).triu(1)
        sums.append(exponents.where(later, -torch.inf).flatten().logsumexp(0))
    return torch.stack(sums).logsumexp(0).item() - math.log(count * (count - 1) / 2)

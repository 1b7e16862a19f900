"""Scores with few labels of each class: means over draws of the labels, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from raydistill.config import EvalConfig
from raydistill.evaluation.knn import knn_predictions
from raydistill.evaluation.logistic import fit_regression, standardizer
from raydistill.evaluation.probe import Split

DEFAULT_COUNTS = (1, 5, 20)
DRAWS = 10
STRENGTH = 20.0  # scikit-learn's C for rows of unit length
CONFIDENCE = 0.95


def counts_of(settings: EvalConfig, *, few: bool) -> tuple[int, ...]:
    """Numbers of labels per class that are scored; `few`: whether the images have few labels."""
    if settings.labels_per_class is not None:
        return settings.labels_per_class
    return DEFAULT_COUNTS if few else ()


def few_label_scores(
    train: Split, test: Split, counts: Sequence[int], *, ks: Sequence[int], seed: int
) -> dict[str, float]:
    """Score k-NN and a linear probe that know a few labels of each class, and no others.

    For each number of labels, the images are drawn ten times, the same in every run with this seed, and all test images
    are classified each time. k-NN is a majority vote, averaged over those of `ks` that are at most the number of
    labels, else k = 1. The probe is logistic regression to convergence on features standardised over all of `train`,
    whose labels it does not see. No label chooses its regularisation: C = 20 / D.

    Args:
        train: features (N, D) and labels (N,) to draw from.
        test: features (M, D) and labels (M,).
        counts: numbers of labels of each class; those that some class does not have are left out.
        ks: numbers of neighbours.
        seed: of the draws.

    Returns: `test_knn_N_labels` and `test_probe_N_labels` for each number N, and both ends of their intervals, as
        `interval` gives them, by the same names with `_low` and `_high`.
    """
    features, labels = train
    mean, scale = standardizer(features)
    rows, queries = features.sub(mean).div_(scale), test[0].sub(mean).div_(scale)
    scores: dict[str, float] = {}
    for count in counts:
        if int(torch.unique(labels, return_counts=True)[1].min()) < count:
            continue
        few = [k for k in ks if k <= count] or [1]
        draws = list(_draws(labels, count, seed))
        knn = [knn_hits((features[drawn], labels[drawn]), test, few) for drawn in draws]
        probe = [_probe_hits((rows[drawn], labels[drawn]), (queries, test[1])) for drawn in draws]
        scores |= named(f"test_knn_{count}_labels", torch.stack(knn))
        scores |= named(f"test_probe_{count}_labels", torch.stack(probe))
    return scores


def named(metric: str, hits: Tensor) -> dict[str, float]:
    """The mean of `hits` (draws, M) and the ends of its interval, as metrics."""
    mean, low, high = interval(hits)
    return {metric: mean, f"{metric}_low": low, f"{metric}_high": high}


def interval(hits: Tensor) -> tuple[float, float, float]:
    """Mean accuracy, and the ends of the 95 % interval for a classifier from one draw of labels, on new images.

    The interval is Wilson's score interval, which holds also for small test splits and for accuracies near 0 and 1. Its
    number of images is reduced by the design effect (Kish, "Survey Sampling", 1965): the variance of the accuracy
    between draws is added to that of drawing M test images.

    Args:
        hits: (draws, M), 1 where a test image was classified correctly, between 0 and 1 for a mean over classifiers.
    """
    mean, images = hits.double().mean().item(), float(hits.shape[1])
    between = hits.double().mean(1).var().item() if len(hits) > 1 else 0.0
    within = mean * (1 - mean) / images
    if within > 0:
        images = images * within / (within + between)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (mean + z**2 / (2 * images)) / (1 + z**2 / images)
    reach = z / (1 + z**2 / images) * math.sqrt(mean * (1 - mean) / images + z**2 / (4 * images**2))
    return mean, max(0.0, min(mean, centre - reach)), min(1.0, max(mean, centre + reach))


def knn_hits(bank: Split, test: Split, ks: Sequence[int]) -> Tensor:
    """Share (M,) of `ks` by which each test image is classified correctly.

    Args:
        bank: features (N, D) and labels (N,).
        test: features (M, D) and labels (M,).
        ks: numbers of neighbours.
    """
    predicted = knn_predictions(*bank, test[0], ks=ks)
    return torch.stack([torch.eq(found, test[1]).double() for found in predicted.values()]).mean(0)


def _draws(labels: Tensor, count: int, seed: int) -> Iterator[Tensor]:
    """Rows of `count` images of each class, drawn anew each time."""
    classes = [np.flatnonzero(labels.numpy() == each) for each in torch.unique(labels).tolist()]
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, 4, count, draw])
        yield torch.from_numpy(np.concatenate([rng.choice(rows, count, replace=False) for rows in classes]))


def _probe_hits(train: Split, test: Split) -> Tensor:
    """(M,), 1 where logistic regression on a few rows classifies a test image correctly.

    The best weights lie in the span of the rows, so that as many coordinates as there are rows are enough.
    """
    classes, labels = torch.unique(train[1], return_inverse=True)
    left, values, right = torch.linalg.svd(train[0], full_matrices=False)
    weight, bias = fit_regression((left * values, labels), len(classes), STRENGTH / train[0].shape[1])
    predicted = torch.nn.functional.linear(test[0] @ right.T, weight, bias).argmax(1)
    return torch.eq(classes[predicted], test[1]).double()

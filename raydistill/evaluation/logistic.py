"""Linear probe to convergence: multinomial logistic regression, its regularisation chosen on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from raydistill.evaluation.probe import ProbeResult, Split, Weights, accuracy, check_splits

# scikit-learn's C, from strong to weak; beyond the last, features of unit variance are fitted without a bound.
REGULARIZATIONS = tuple(10.0**exponent for exponent in range(-5, 3))
PATIENCE = 2
TOLERANCE = 2e-5
MAX_ITERATIONS = 1000


def logistic_probe(
    train: Tensor,
    train_labels: Tensor,
    val: Tensor,
    val_labels: Tensor,
    *,
    test: Tensor | None = None,
    test_labels: Tensor | None = None,
    classes: int,
) -> ProbeResult:
    """Fit a linear classifier to convergence on standardised features; score the choice of validation once on test.

    Minimises the mean cross-entropy plus |W|^2 / (2 N C) by L-BFGS, as scikit-learn's LogisticRegression, for each C of
    `REGULARIZATIONS`, each from the weights of the one before. It stops once validation has been below its best for two
    values of C. Of values that are equally good the strongest regularisation wins. No chance is involved.

    Args:
        train, train_labels: (N, D) and (N,), on the device that is to multiply; L-BFGS itself runs on the CPU.
        val, val_labels: alike, to choose C.
        test, test_labels: alike, scored once; None: not scored.
        classes: number of classes.

    Raises:
        ValueError: features that are not finite, or features and labels that do not fit together; the message names
            the split.
    """
    fit, chosen, scored = check_splits(train, train_labels, val, val_labels, test, test_labels, classes)
    mean, scale = standardizer(fit[0])
    fit, chosen = ((features.sub(mean).div_(scale), labels) for features, labels in (fit, chosen))
    start, directions = np.zeros((classes, fit[0].shape[1] + 1)), _Directions.of(fit[0])
    device = fit[0].device
    best, kept, chosen_c, below = -1.0, _weights(start, device), REGULARIZATIONS[0], 0
    for c in REGULARIZATIONS:
        start = _fit(fit, classes, c, start, directions)
        found = accuracy(chosen, _weights(start, device))
        below = below + 1 if found < best else 0
        if found > best:
            best, kept, chosen_c = found, _weights(start, device), c
        if below == PATIENCE:
            break
    if scored is None:
        return ProbeResult(best, None, regularization=chosen_c)
    scored = (scored[0].sub(mean).div_(scale), scored[1])
    return ProbeResult(best, accuracy(scored, kept), 0, F.linear(scored[0], *kept), chosen_c)


def standardizer(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the training rows; 1 for dimensions that never change."""
    variance, mean = torch.var_mean(train.double(), dim=0, correction=0)
    scale = variance.sqrt()
    # What is left of a constant dimension is rounding.
    scale[scale <= 1e-6 * mean.abs()] = 1.0
    scale[scale == 0] = 1.0
    return mean.float(), scale.float()


@dataclass(frozen=True)
class _Directions:
    """Principal directions (D, D) of the features, one a column, and the variance (D,) along each."""

    vectors: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def of(cls, features: Tensor) -> _Directions:
        values, vectors = torch.linalg.eigh(features.T @ features / len(features))
        return cls(vectors.double().cpu().numpy(), values.clamp(min=0).double().cpu().numpy())


def fit_regression(train: Split, classes: int, c: float) -> Weights:
    """Fit logistic regression to convergence with one strength of regularisation.

    Args:
        train: features (N, D), as the penalty shall see them, and labels (N,).
        classes: number of classes.
        c: scikit-learn's C.
    """
    start = np.zeros((classes, train[0].shape[1] + 1))
    return _weights(_fit(train, classes, c, start, _Directions.of(train[0])), train[0].device)


def _fit(
    train: Split, classes: int, c: float, start: NDArray[np.float64], directions: _Directions
) -> NDArray[np.float64]:
    """Weights and biases (classes, D + 1) of the minimum.

    L-BFGS moves along the principal directions, each scaled by the square root of the curvature there. Features are
    correlated, pixels most of all: for those of 10,000 images of CIFAR-10 this took 15 s instead of 75 s on two cores.
    """
    from scipy.optimize import minimize

    features, labels = train
    target = F.one_hot(labels, classes).to(features.dtype)
    penalty = 1 / (len(features) * c)
    # The curvature of the cross-entropy where all classes are equally likely, by class.
    steepness = (classes - 1) / classes**2 + 1e-12
    scale = (steepness * directions.variances + penalty) ** -0.5
    bias_scale = steepness**-0.5

    def weights_of(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        point = flat.reshape(start.shape)
        return np.hstack([(point[:, :-1] * scale) @ directions.vectors.T, point[:, -1:] * bias_scale])

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        point = weights_of(flat)
        logits = F.linear(features, *_weights(point, features.device))
        # In double precision, since the line search compares losses that differ little.
        loss = F.cross_entropy(logits.double(), labels).item() + penalty / 2 * float((point[:, :-1] ** 2).sum())
        error = logits.softmax(dim=1) - target
        rows = (error.T @ features).double().cpu().numpy() / len(features) + penalty * point[:, :-1]
        columns = error.sum(0).double().cpu().numpy() / len(features)
        return loss, np.hstack([(rows @ directions.vectors) * scale, columns[:, None] * bias_scale]).ravel()

    begin = np.hstack([(start[:, :-1] @ directions.vectors) / scale, start[:, -1:] / bias_scale])
    options = {"gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps, "maxiter": MAX_ITERATIONS}
    found = minimize(objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    return weights_of(np.asarray(found.x))


def _weights(point: NDArray[np.float64], device: torch.device) -> Weights:
    values = torch.from_numpy(np.ascontiguousarray(point)).float().to(device)
    return values[:, :-1], values[:, -1]

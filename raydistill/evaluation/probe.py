"""Linear probe on frozen, cached features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Split = tuple[Tensor, Tensor]
Weights = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ProbePreset:
    """Recipe of a linear probe.

    Args:
        optimizer: `adam`, or `sgd` with a momentum of 0.9.
        lr: learning rate at `batch_size`.
        weight_decay: L2.
        batch_size: rows of a step.
        epochs: passes over the training rows.
        standardized: unit length, then zero mean and unit variance per dimension, from the training rows.
        schedule: of the rate, by epoch: `step` divides it by 10 after the epochs in `milestones`.
        milestones: of schedule step.
        normal: weights start from N(0, 0.01) and biases from 0; else as PyTorch draws them.
    """

    optimizer: Literal["adam", "sgd"]
    lr: float
    weight_decay: float
    batch_size: int
    epochs: int
    standardized: bool = False
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = ()
    normal: bool = False


# Sources: NeurAI-Lab/DoGo; UCDvision/simreg, eval_linear.py; jacobswan1/SEED, main_lincls.py, whose warm-up leaves the
# rate as it is at a batch of 256; facebookresearch/moco-v3, main_lincls.py and README (ViT: a rate of 3).
PROBE_PRESETS = {
    "dogo": ProbePreset("adam", lr=3e-4, weight_decay=1e-6, batch_size=64, epochs=100),
    "simreg": ProbePreset(
        "sgd", lr=0.01, weight_decay=1e-4, batch_size=256, epochs=40, standardized=True, milestones=(15, 30)
    ),
    "seed": ProbePreset("sgd", lr=30.0, weight_decay=0.0, batch_size=256, epochs=100, milestones=(60, 80), normal=True),
    "mocov3": ProbePreset(
        "sgd", lr=3.0 * 1024 / 256, weight_decay=0.0, batch_size=1024, epochs=90, schedule="cosine", normal=True
    ),
}


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies in [0, 1] of the weights that were best on validation, and their epoch, counted from 1.

    `test_logits` (M, classes) are those of the test rows, where there are any. `lr` is the learning rate, for a batch
    of 256. A probe to convergence has neither epochs nor rate but a `regularization`, scikit-learn's C.
    """

    val: float
    test: float | None
    best_epoch: int = 0
    test_logits: Tensor | None = field(default=None, compare=False)
    regularization: float | None = None
    lr: float | None = None


def linear_probe(
    train: Tensor,
    train_labels: Tensor,
    val: Tensor,
    val_labels: Tensor,
    *,
    test: Tensor | None = None,
    test_labels: Tensor | None = None,
    classes: int,
    preset: str = "dogo",
    epochs: int | None = None,
    lr: float | Sequence[float] | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Train a linear classifier on features; the weights best on validation are scored once on test.

    Source: the linear evaluation of DoGo (Adam 3e-4, weight decay 1e-6, batch 64, 100 epochs, raw features), SimReg,
    SEED or MoCo v3. The released DoGo code drops the last validation batch and divides by the number of test
    batches; here every image counts once. SEED's and MoCo v3's train on random crops, and report the best epoch on the
    images that are scored; here features are fixed, and validation chooses. Of epochs that are equally good the first
    wins.

    Args:
        train, train_labels: (N, D) and (N,), on the device where the classifier learns.
        val, val_labels: alike, to choose the epoch.
        test, test_labels: alike, scored once; None: not scored.
        classes: number of classes.
        preset: a key of `PROBE_PRESETS`.
        epochs: instead of the preset's.
        lr: instead of the preset's, for a batch of 256; scaled linearly to the preset's. Of several, all of which are
            trained in one pass over the features, validation chooses.
        seed: of weights and batches.

    Raises:
        ValueError: an unknown preset, no epochs, features that are not finite, or features and labels that do not
            fit together; the message names the split.
    """
    if preset not in PROBE_PRESETS:
        raise ValueError(f"probe preset {preset!r} is unknown; valid: {', '.join(PROBE_PRESETS)}")
    settings = PROBE_PRESETS[preset]
    scale = settings.batch_size / 256
    rates = (
        (settings.lr,) if lr is None else tuple(each * scale for each in ([lr] if isinstance(lr, int | float) else lr))
    )
    if not rates or min(rates) <= 0:
        raise ValueError(f"lr = {lr}; expected numbers above 0")
    epochs = settings.epochs if epochs is None else epochs
    if epochs < 1:
        raise ValueError(f"epochs = {epochs}; expected at least 1")
    fit, chosen, scored = check_splits(train, train_labels, val, val_labels, test, test_labels, classes)
    if settings.standardized:
        standard = _standardizer(fit[0])
        fit, chosen = (standard(fit[0]), fit[1]), (standard(chosen[0]), chosen[1])
        scored = (standard(scored[0]), scored[1]) if scored is not None else None
    if len(rates) == 1:
        best, epoch, kept = _fit(fit, chosen, classes, replace(settings, lr=rates[0]), epochs, seed)
        rate = rates[0]
    else:
        best, epoch, rate, kept = _fit_many(fit, chosen, classes, settings, epochs, seed, rates)
    if scored is None:
        return ProbeResult(best, None, epoch, lr=rate / scale)
    return ProbeResult(best, accuracy(scored, kept), epoch, F.linear(scored[0], *kept), lr=rate / scale)


def check_splits(
    train: Tensor,
    train_labels: Tensor,
    val: Tensor,
    val_labels: Tensor,
    test: Tensor | None,
    test_labels: Tensor | None,
    classes: int,
) -> tuple[Split, Split, Split | None]:
    """Return features as float32 and labels as int64, split by split.

    Args:
        train, train_labels: (N, D) and (N,).
        val, val_labels: alike.
        test, test_labels: alike, or None.
        classes: number of classes.

    Raises:
        ValueError: what does not fit together; the message names the split.
    """
    if (test is None) != (test_labels is None):
        raise ValueError("test features and test labels go together; one of them is missing")
    fit, chosen = (_split(*split, classes) for split in (("train", train, train_labels), ("val", val, val_labels)))
    scored = _split("test", test, test_labels, classes) if test is not None and test_labels is not None else None
    for name, split in (("val", chosen), ("test", scored)):
        if split is not None and split[0].shape[1] != fit[0].shape[1]:
            raise ValueError(f"{name}: {split[0].shape[1]} dimensions, train has {fit[0].shape[1]}; they must agree")
    return fit, chosen, scored


def _split(name: str, features: Tensor, labels: Tensor, classes: int) -> Split:
    features, labels = features.detach().float(), labels.long().to(features.device)
    if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}: features of shape {tuple(features.shape)} and labels of shape {tuple(labels.shape)}; "
            "expected (N, D) and (N,) with N >= 1"
        )
    if not torch.isfinite(features).all():
        raise ValueError(f"{name}: {int((~torch.isfinite(features)).any(dim=1).sum())} feature rows are not finite")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{name}: labels from {int(labels.min())} to {int(labels.max())} with {classes} classes")
    return features, labels


def _standardizer(train: Tensor) -> Callable[[Tensor], Tensor]:
    """Unit length, then zero mean and unit variance; 1e-5 beneath the root as in SimReg's released code."""
    variance, mean = torch.var_mean(F.normalize(train, dim=1), dim=0, correction=0)
    return lambda features: (F.normalize(features, dim=1) - mean) * (variance + 1e-5).rsqrt()


def _fit(
    train: Split, val: Split, classes: int, settings: ProbePreset, epochs: int, seed: int
) -> tuple[float, int, Weights]:
    """The best validation accuracy, its epoch and its weights."""
    features, labels = train
    generator = torch.Generator().manual_seed(seed)
    weight, bias = _drawn(features, classes, settings, generator)
    optimizer = _optimizer([weight, bias], settings)
    schedule = _schedule(optimizer, settings, epochs)
    best, best_epoch, kept = -1.0, 0, (weight, bias)
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for rows in order.split(settings.batch_size):
            weight.grad, bias.grad = _gradients(features[rows], labels[rows], weight, bias)
            optimizer.step()
        schedule.step()
        found = accuracy(val, (weight, bias))
        if found > best:
            best, best_epoch, kept = found, epoch, (weight.clone(), bias.clone())
    return best, best_epoch, kept


def _drawn(features: Tensor, classes: int, settings: ProbePreset, generator: torch.Generator) -> Weights:
    """Initial weights and biases beside the features; drawn on the CPU, the same for any device."""
    if settings.normal:
        weight = torch.empty(classes, features.shape[1]).normal_(std=0.01, generator=generator)
        return weight.to(features.device), torch.zeros(classes, device=features.device)
    bound = features.shape[1] ** -0.5
    shapes = (classes, features.shape[1]), (classes,)
    weight, bias = (torch.empty(shape).uniform_(-bound, bound, generator=generator) for shape in shapes)
    return weight.to(features.device), bias.to(features.device)


# docs/architecture.md#many-probes-at-once
def _fit_many(
    train: Split, val: Split, classes: int, settings: ProbePreset, epochs: int, seed: int, rates: Sequence[float]
) -> tuple[float, int, float, Weights]:
    """The best validation accuracy, its epoch, rate and weights, of R rates that start alike and see the same batches.

    One optimizer at rate 1 moves V = W / rate by the gradient of W, which is what each would do at its own rate.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = _drawn(train[0], classes, settings, generator)
    drawn = torch.cat([part.reshape(classes, -1) for part in parts], 1)
    # A column of ones makes the bias one more weight; columns of zeros round the width up, which products like.
    spare = -drawn.shape[1] % 16
    drawn = F.pad(drawn, (0, spare))
    features, held_out = (F.pad(F.pad(split[0], (0, 1), value=1.0), (0, spare)) for split in (train, val))
    target = F.one_hot(train[1], classes).to(features.dtype)[:, None]
    rate = torch.tensor(rates, device=features.device).view(-1, 1, 1)
    scaled = drawn / rate  # (R, classes, D + 1)
    scaled.grad, weights = torch.empty_like(scaled), torch.empty_like(scaled)
    flat, gradient = (each.view(-1, drawn.shape[1]) for each in (weights, scaled.grad))
    optimizer = _optimizer([scaled], replace(settings, lr=1.0, weight_decay=0.0))
    schedule = _schedule(optimizer, settings, epochs)
    best, best_epoch, best_rate, kept = -1.0, 0, rates[0], drawn
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for rows in order.split(settings.batch_size):
            batch = features[rows]
            torch.mul(scaled, rate, out=weights)
            error = (batch @ flat.T).view(len(batch), len(rates), classes).softmax(dim=2)
            error -= target[rows]
            torch.mm(error.div_(len(batch)).flatten(1).T, batch, out=gradient)
            scaled.grad.add_(weights, alpha=settings.weight_decay)
            optimizer.step()
        schedule.step()
        torch.mul(scaled, rate, out=weights)
        predicted = (held_out @ flat.T).view(len(held_out), len(rates), classes).argmax(dim=2)
        hits = torch.eq(predicted, val[1][:, None]).double().mean(0)
        found = int(hits.argmax())
        if (value := hits[found].item()) > best:
            best, best_epoch, best_rate, kept = value, epoch, rates[found], weights[found].clone()
    width = train[0].shape[1]
    return best, best_epoch, best_rate, (kept[:, :width], kept[:, width])


def _optimizer(parameters: list[Tensor], settings: ProbePreset) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr=settings.lr, weight_decay=settings.weight_decay, momentum=0.9, fused=True)


def _schedule(
    optimizer: torch.optim.Optimizer, settings: ProbePreset, epochs: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: (1 + math.cos(math.pi * epoch / epochs)) / 2)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, list(settings.milestones))


def _gradients(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Weights:
    """Gradients of the mean cross-entropy, in closed form: autograd's overhead would double the time of a step."""
    error = F.linear(features, weight, bias).softmax(dim=1)
    error[torch.arange(len(labels), device=labels.device), labels] -= 1
    error /= len(labels)
    return error.T @ features, error.sum(dim=0)


def accuracy(split: Split, weights: Weights) -> float:
    """Share of the rows whose largest logit is that of their label."""
    return (F.linear(split[0], *weights).argmax(dim=1) == split[1]).double().mean().item()

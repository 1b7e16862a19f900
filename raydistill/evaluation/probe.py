"""Linear probe on frozen, cached features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ProbePreset:
    """`standardized`: unit length, then zero mean and unit variance per dimension, from the training rows."""

    optimizer: str
    lr: float
    weight_decay: float
    batch_size: int
    epochs: int
    standardized: bool = False
    milestones: tuple[int, ...] = ()


PRESETS = {
    "dogo": ProbePreset("adam", lr=3e-4, weight_decay=1e-6, batch_size=64, epochs=100),
    "simreg": ProbePreset(
        "sgd", lr=0.01, weight_decay=1e-4, batch_size=256, epochs=40, standardized=True, milestones=(15, 30)
    ),
}


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies in [0, 1] of the weights that were best on validation, and their epoch, counted from 1."""

    val: float
    test: float | None
    best_epoch: int


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
    seed: int = 0,
) -> ProbeResult:
    """Train a linear classifier on (N, D) features; the weights best on validation are scored once on test.

    Source: DoGo's linear evaluation (Adam 3e-4, weight decay 1e-6, batch 64, 100 epochs, raw features), or
    SimReg's. The released DoGo code drops the last validation batch and divides by the number of test
    batches; here every image counts once.

    Raises: ValueError for an unknown preset, or features and labels that do not fit together.
    """
    if preset not in PRESETS:
        raise ValueError(f"probe preset {preset!r} is unknown; valid: {', '.join(PRESETS)}")
    settings = PRESETS[preset]
    for features, labels in ((train, train_labels), (val, val_labels)):
        if not len(features) or len(features) != len(labels):
            raise ValueError(f"{len(features)} features and {len(labels)} labels; expected as many, and some")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())} with {classes} classes")
    if settings.standardized:
        unit = F.normalize(train, dim=1)
        mean, std = unit.mean(dim=0), unit.std(dim=0).clamp_min(1e-8)
        train, val = ((F.normalize(x, dim=1) - mean) / std for x in (train, val))
        test = (F.normalize(test, dim=1) - mean) / std if test is not None else None
    generator = torch.Generator().manual_seed(seed)
    bound = train.shape[1] ** -0.5
    weight = torch.empty(classes, train.shape[1]).uniform_(-bound, bound, generator=generator).requires_grad_()
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator).requires_grad_()
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam([weight, bias], **common)  # type: ignore[arg-type]
    else:
        optimizer = torch.optim.SGD([weight, bias], momentum=0.9, **common)  # type: ignore[arg-type]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(settings.milestones))
    best, kept = (-1.0, 0), (weight.detach().clone(), bias.detach().clone())
    for epoch in range(1, (epochs or settings.epochs) + 1):
        for rows in torch.randperm(len(train), generator=generator).split(settings.batch_size):
            loss = F.cross_entropy(F.linear(train[rows], weight, bias), train_labels[rows])
            weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
            optimizer.step()
        schedule.step()
        accuracy = _accuracy(val, val_labels, weight, bias)
        if accuracy > best[0]:
            best, kept = (accuracy, epoch), (weight.detach().clone(), bias.detach().clone())
    scored = _accuracy(test, test_labels, *kept) if test is not None and test_labels is not None else None
    return ProbeResult(best[0], scored, best[1])


def _accuracy(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> float:
    return (F.linear(features, weight, bias).argmax(dim=1) == labels).float().mean().item()

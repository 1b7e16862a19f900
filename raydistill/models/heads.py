"""Projection and prediction heads, layer by layer as the methods print them."""

from __future__ import annotations

from torch import nn


def simclr_projector(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Linear without bias, BN, ReLU, Linear (NeurAI-Lab/DoGo, branch dogo; the paper prints no BN)."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


def simsiam_projector(dim: int, out: int, layers: int = 3) -> nn.Sequential:
    """Linear, BN, ReLU repeated, BN after the last linear (NeurAI-Lab/DoGo: biases, affine BN)."""
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules += [nn.Linear(dim if layer == 0 else out, out), nn.BatchNorm1d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules[:-1])


def simsiam_predictor(dim: int, hidden: int) -> nn.Sequential:
    """Linear, BN, ReLU, Linear back to `dim`."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))

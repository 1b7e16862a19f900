"""Projection and prediction heads, layer by layer as the methods print them."""

from __future__ import annotations

from torch import Tensor, nn


class HeadedBackbone(nn.Module):
    """A backbone or an exit with its head, or the first layers of it, as one encoder; `dim` is its output width."""

    def __init__(self, backbone: nn.Module, layers: nn.Sequential) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers
        self.dim = [layer for layer in layers if isinstance(layer, nn.Linear)][-1].out_features

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> (N, dim)."""
        features: Tensor = self.layers(self.backbone(images))
        return features


def simclr_projector(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Linear without bias, BN, ReLU, Linear (NeurAI-Lab/DoGo, branch dogo; the paper prints no BN).

    Args:
        dim, hidden, out: widths of the input, the hidden layer and the output.
    """
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


def simsiam_projector(dim: int, out: int, layers: int = 3) -> nn.Sequential:
    """Linear, BN, ReLU repeated, BN after the last linear (NeurAI-Lab/DoGo: biases, affine BN).

    Args:
        dim, out: widths of the input and of all layers.
        layers: number of linear layers.
    """
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules += [nn.Linear(dim if layer == 0 else out, out), nn.BatchNorm1d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules[:-1])


def simsiam_predictor(dim: int, hidden: int) -> nn.Sequential:
    """Linear, BN, ReLU, Linear back to `dim`."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))


def relu_head(dim: int, hidden: int | None, out: int) -> nn.Sequential:
    """Linear, ReLU, Linear, no batch norm (MoCo v2's and SEED's).

    Args:
        dim, hidden, out: widths of the input, the hidden layer (None: as wide as the input) and the output.
    """
    width = hidden or dim
    return nn.Sequential(nn.Linear(dim, width), nn.ReLU(inplace=True), nn.Linear(width, out))


def mlp_head(dim: int, hidden: int, out: int, layers: int, *, output_batchnorm: bool) -> nn.Sequential:
    """Linear layers without bias, BN and ReLU after the hidden ones.

    Args:
        dim, hidden, out: widths of the input, the hidden layers and the output.
        layers: number of linear layers.
        output_batchnorm: whether batch norm without affine parameters follows the output.

    Source: facebookresearch/moco-v3, moco/builder.py; the same in hagiss/SDSSL.
    """
    widths = [dim, *[hidden] * (layers - 1), out]
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules.append(nn.Linear(widths[layer], widths[layer + 1], bias=False))
        if layer < layers - 1:
            modules += [nn.BatchNorm1d(widths[layer + 1]), nn.ReLU(inplace=True)]
    if output_batchnorm:
        modules.append(nn.BatchNorm1d(out, affine=False))
    return nn.Sequential(*modules)

"""A ResNet with four exits, one after each stage, as "be your own teacher" (BYOT) and SSSD use it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.models.backbones import Backbone
from raydistill.models.vit import sharing

STAGES = ("layer1", "layer2", "layer3", "layer4")
Style = Literal["conference", "journal"]


class ExitedResNet(nn.Module):
    """Features F_1..F_4 (N, dim) of the four stages, all as wide as the deepest, which is the backbone's own.

    Raises: ValueError for a backbone that has not the four stages of a ResNet.
    """

    def __init__(self, backbone: Backbone, style: Style) -> None:
        super().__init__()
        missing = [name for name in STAGES if not hasattr(backbone.net, name)]
        if missing:
            raise ValueError(
                f"backbone {backbone.name!r} has no {missing[0]}; SSSD needs the four stages of a ResNet, "
                "for instance resnet10_w16, resnet18, torchvision:resnet50"
            )
        self.backbone = backbone
        self.dim = backbone.dim
        shapes = [tuple(stage.shape[1:]) for stage in self._probe(backbone.image_size)]
        build = _conference if style == "conference" else _journal
        self.exits = nn.ModuleList(build(index, shapes[index], self.dim) for index in range(3))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) -> the four features."""
        stages = self.stages(images)
        shallow = [_pooled(exit_(stage)) for exit_, stage in zip(self.exits, stages[:3], strict=True)]
        return [*shallow, _pooled(stages[3])]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps after the four stages."""
        return _maps(self.backbone.net, images)

    @torch.no_grad()
    def _probe(self, image_size: int) -> list[Tensor]:
        self.backbone.eval()
        maps = self.stages(torch.zeros(1, 3, image_size, image_size))
        self.backbone.train()
        return maps


class Exit(nn.Module):
    """The encoder that ends at one of the shallow exits; it shares the modules up to there and has no others."""

    def __init__(self, network: ExitedResNet, index: int) -> None:
        super().__init__()
        self.net = sharing(network.backbone.net, **dict.fromkeys(STAGES[index + 1 :]))
        self.exit, self.dim = network.exits[index], network.dim

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> F of this exit, (N, dim)."""
        return self.maps(images)[0]

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) -> F of this exit, (N, dim), and its map (N, H', W', dim)."""
        found = self.exit(_maps(self.net, images)[-1])
        return _pooled(found), found.permute(0, 2, 3, 1)


def _maps(net: Any, images: Tensor) -> list[Tensor]:
    """Feature maps of a ResNet after each of the stages that it has."""
    x = net.bn1(net.conv1(images))
    x = net.maxpool((net.act1 if hasattr(net, "act1") else net.relu)(x))
    maps = []
    for name in STAGES:
        if hasattr(net, name):
            x = getattr(net, name)(x)
            maps.append(x)
    return maps


def _pooled(maps: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def _conference(index: int, shape: tuple[int, ...], dim: int) -> nn.Sequential:
    """1x1, k x k of stride k, 1x1 with k = 8, 4, 2, each with batch norm and ReLU; k is cut to small maps.

    Source: the bottleneck of BYOT's conference form, as luanyunteng/pytorch-be-your-own-teacher has it.
    """
    channels, height, width = shape
    middle = max(1, dim // 4)
    kernel = min(8 >> index, height, width)
    return nn.Sequential(
        *_convolution(channels, middle, 1, 1),
        *_convolution(middle, middle, kernel, kernel),
        *_convolution(middle, dim, 1, 1),
    )


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _journal(index: int, shape: tuple[int, ...], dim: int) -> nn.Sequential:
    """A sigmoid attention mask, then 3, 2 or 1 depthwise-separable blocks of stride 2 that reach `dim` channels.

    Source: ArchipLab-LinfengZhang/pytorch-self-distillation-final.
    """
    channels = shape[0]
    widths = [channels, *(min(dim, channels << step) for step in range(1, 3 - index)), dim]
    blocks = [_separable(a, b, stride=2) for a, b in pairwise(widths)]
    return nn.Sequential(Attention(channels), *blocks)


class Attention(nn.Module):
    """Multiplies a map by a mask of itself, computed at half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = _separable(channels, channels, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        mask = F.interpolate(self.mask(maps), size=maps.shape[-2:], mode="bilinear", align_corners=False)
        return maps * torch.sigmoid(mask)


def _separable(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    """Depthwise 3x3 and pointwise, twice; the first halves the map, the second widens it."""

    def half(a: int, b: int, step: int) -> list[nn.Module]:
        """Depthwise and pointwise convolution from `a` to `b` channels.

        Args:
            a, b: channels before and after.
            step: stride of the depthwise convolution.
        """
        return [
            nn.Conv2d(a, a, 3, stride=step, padding=1, groups=a, bias=False),
            nn.Conv2d(a, b, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(*half(inputs, inputs, stride), *half(inputs, outputs, 1))

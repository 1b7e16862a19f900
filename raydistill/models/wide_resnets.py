"""Wide ResNets: those of Zagoruyko and Komodakis for small images, and ResNet-50 as SimCLR and SwAV widen it."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

WRN = re.compile(r"wrn(\d+)_(\d+)")
WIDE = re.compile(r"resnet50x(\d+)")


class WideResNet(nn.Module):
    """Images (N, 3, H, W) to pooled features (N, 64 * width): three groups of blocks with norm and ReLU first.

    The stem is a 3x3 convolution of stride 1 with 16 channels; the groups have 16, 32 and 64 times `width`
    channels and strides 1, 2 and 2. There is no dropout.

    Args:
        depth: 6n + 4, with n blocks in each group.
        width: factor of the channels, called k in the paper.

    Source: arXiv 1605.07146, table 1, and szagoruyko/wide-residual-networks.
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        channels = [16, *(width * base for base in (16, 32, 64))]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3 = (
            _group(inputs, outputs, blocks=(depth - 4) // 6, stride=stride)
            for inputs, outputs, stride in zip(channels, channels[1:], (1, 2, 2), strict=False)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        return self.pool(self.act(self.norm(x))).flatten(1)


class PreActBlock(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice. A projection, where the shape changes, sees the first norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.act = nn.ReLU(inplace=True)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        x = self.act(self.bn1(maps))
        shortcut = maps if self.shortcut is None else self.shortcut(x)
        return shortcut + self.conv2(self.act(self.bn2(self.conv1(x))))


def _group(inputs: int, outputs: int, *, blocks: int, stride: int) -> nn.Sequential:
    rest = (PreActBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(PreActBlock(inputs, outputs, stride), *rest)


def build_wrn(name: str) -> WideResNet:
    """`wrnDEPTH_WIDTH`, such as wrn28_2. Raises: ValueError for a depth or a width that cannot be."""
    depth, width = map(int, WRN.fullmatch(name).groups())  # type: ignore[union-attr]
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise ValueError(
            f"backbone {name!r}: the depth of a wide ResNet is 6n + 4 and at least 10, its width at least 1; "
            "for instance wrn10_2, wrn16_2, wrn28_2, wrn40_2"
        )
    return WideResNet(depth, width)


def wide_resnet50(name: str) -> dict[str, Any]:
    """Arguments of timm's ResNet for `resnet50xWIDTH`, whose channels are all multiplied, those of the stem too.

    The stem is deep only because timm widens no other; `build_wide` replaces it.
    """
    width = int(WIDE.fullmatch(name)[1])  # type: ignore[index]
    if width < 1:
        raise ValueError(f"backbone {name!r}: the width must be at least 1, as in resnet50x2, resnet50x4, resnet50x5")
    channels = [64 * width * factor for factor in (1, 2, 4, 8)]
    return {"channels": channels, "stem_type": "deep", "stem_width": 32 * width}


def build_wide(name: str) -> nn.Module:
    """A ResNet-50 of any width under torchvision's names.

    Sources: google-research/simclr and tonylins/simclr-converter (x2, x4), facebookresearch/swav (w2, w4, w5; its
    padding layer before a convolution of padding 2 is a padding of 3).
    """
    from timm.models.resnet import Bottleneck, ResNet  # docs/architecture.md#late-imports

    net = ResNet(Bottleneck, layers=(3, 4, 6, 3), num_classes=0, **wide_resnet50(name))
    net.conv1 = nn.Conv2d(3, net.bn1.num_features, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net

"""Stems for small images: the first layers of a network with less stride."""

from __future__ import annotations

from typing import Any

from torch import nn

from raydistill.models.wide_resnets import WideResNet

MOBILE = ("EfficientNet", "MobileNetV2", "MobileNetV3")  # classes of timm and torchvision


def shrink_stem(net: nn.Module, *, stride: int, explicit: bool) -> bool:
    """Give a network a stem for small images, and return whether it has one now.

    A ResNet begins with a 3x3 convolution of this stride, without pooling. Of MobileNets and EfficientNets, the first
    two convolutions of stride 2 get `stride` and 1. The whole network then has a stride of 8 or 16 instead of 32.

    Args:
        net: the network, changed in place.
        stride: 1 or 2.
        explicit: whether the stem was asked for by name. Else only ResNets change, as in version 0.1.
    """
    if all(hasattr(net, part) for part in ("conv1", "bn1", "maxpool")):
        _replace(net, stride)
        return True
    if not explicit:
        return False
    if isinstance(net, WideResNet):
        net.conv1.stride = (stride, stride)
        return True
    if is_mobile(net):
        first, second = strided(net)[:2]
        first.stride, second.stride = (stride, stride), (1, 1)
        return True
    return False


def _replace(net: Any, stride: int) -> None:
    net.conv1 = nn.Conv2d(3, net.bn1.num_features, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()


def is_mobile(net: nn.Module) -> bool:
    """Return whether this is a MobileNet, an EfficientNet, or one of the networks that timm builds like them."""
    return type(net).__name__ in MOBILE


def strided(net: nn.Module) -> list[nn.Conv2d]:
    """Convolutions of stride 2, in the order of the network."""
    return [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]

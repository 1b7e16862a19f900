"""Student and teacher backbones by name: timm, torchvision, and narrow ResNets that a CPU can train."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.models import vit
from raydistill.models.residual import init_residual
from raydistill.models.stems import is_mobile, shrink_stem
from raydistill.models.wide_resnets import WIDE, WRN, build_wide, build_wrn

NARROW = re.compile(r"resnet(10|18|34)_w(\d+)")
OWN = ("resnet10_w16", "resnet18_w32", "wrn10_2", "wrn16_2", "wrn28_2", "resnet50x2", "resnet50x4", "resnet50x5")
OTHER_WRN = re.compile(r"(?:wide_?resnet|wrn)[-_]?(\d+)[-_x](\d+)")
NARROW_LAYERS = {"10": (1, 1, 1, 1), "18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}
SMALL_IMAGE = 96
SMALL_MOBILE, OWN_STRIDE = 64, 32  # pixels up to which the own stride of a MobileNet leaves maps of 2x2 or less
STEM_WIDTH = 64  # channels of a ResNet's stem, whatever its stages have


class Backbone(nn.Module):
    """Images (N, 3, H, W) to pooled features (N, `dim`); the classifier is gone.

    Args:
        name: `resnet10_w16` (a ResNet-10 whose stages have 16, 32, 64 and 128 channels; also 18 and 34,
            and any width), `vit_w64_d4` (see `vit.build_vit`), `wrn28_2`, `resnet50x4` (see `wide_resnets`),
            `torchvision:NAME`, `timm:NAME`, or a plain name, looked up in timm first.
        stem: `imagenet` keeps the network's own first layers; `small` is a 3x3 convolution of stride 1 and
            no pooling (DoGo's for 32 and 64 px), `stride2` the same with stride 2. MobileNets and EfficientNets
            have them, too: see `stems.shrink_stem`. `auto` is, for ResNets alone, `small` up to 96 px and
            `imagenet` above; narrow ResNets, made for two cores, have `small` up to 16 px and
            `stride2` above. `narrow` is `auto` with a stem as wide as the first stage where that is narrower
            than 64 channels (rounded up to an even number): `resnet10_w16` then begins with 16 channels, not 64.
        image_size: pixels.
        pretrained: with the weights that timm or torchvision publishes; narrow networks have none.

    Raises: ValueError for an unknown name, a stem that the network cannot take, or images of a size that it cannot.
    """

    def __init__(self, name: str, *, stem: str = "auto", image_size: int = 32, pretrained: bool = False) -> None:
        super().__init__()
        self.name, self.image_size = name, image_size
        self.stem = resolve_stem(stem, name, image_size)
        with _named(name, image_size):
            self.net = _build(name, image_size, pretrained, narrow_stem=self.stem == "narrow")
            explicit = stem not in ("auto", "narrow")
            if self.stem != "imagenet" and not shrink_stem(self.net, stride=self._stem_stride(), explicit=explicit):
                if explicit:
                    raise ValueError(f"backbone {name!r} has no stem to shrink; use method.stem=imagenet")
                self.stem = "imagenet"
            self.dim = _output_dim(self.net, image_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def maps(self, images: Tensor) -> vit.Maps:
        """Images (N, 3, H, W), of any size -> a feature (N, dim) and its map (N, H', W', C).

        Of a ViT the class token and the patch tokens after the last block; of others the pooled and the last map.

        Raises: ValueError for a network without maps, or patches that do not divide the image.
        """
        if vit.has_class_tokens(self.net):
            return vit.token_maps(self.net, images, vit.block_count(self.net) - 1)
        net: Any = self.net
        if not hasattr(net, "forward_features"):
            return _torchvision_maps(self, images)
        found: Tensor = net.forward_features(images)
        if found.ndim != 4:
            raise ValueError(f"backbone {self.name!r} has no maps of features")
        channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"  # Swin and its like
        return net.forward_head(found, pre_logits=True), found if channels_last else found.permute(0, 2, 3, 1)

    def init_residual(self, *, zero: bool) -> None:
        """See `residual.init_residual`. Raises: ValueError for a network without residual blocks of that kind."""
        if not init_residual(self.net, zero=zero):
            raise ValueError(
                f"backbone {self.name!r} has no residual blocks that end with batch norm; "
                "leave method.zero_init_residual at none"
            )

    @property
    def advice(self) -> str:
        """A line on this network at this size of images; empty for most."""
        if self.stem != "imagenet" or self.image_size > SMALL_MOBILE or not is_mobile(self.net):
            return ""
        own, small = (math.ceil(self.image_size / stride) for stride in (OWN_STRIDE, 8))
        return (
            f"{self.name} reduces {self.image_size} px to maps of {own}x{own}; "
            f"--set method.stem=small keeps {small}x{small}"
        )

    def _stem_stride(self) -> int:
        return {"small": 1, "stride2": 2}.get(self.stem) or _narrow_stride(self.image_size)


def _torchvision_maps(backbone: Backbone, images: Tensor) -> vit.Maps:
    """Feature and map of a network of torchvision, which pools the last map of four dimensions that it makes."""
    seen: list[Tensor] = []
    layer = getattr(backbone.net, "layer4", None) or getattr(backbone.net, "features", None)
    if layer is None:
        raise ValueError(f"backbone {backbone.name!r} has no maps of features")
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        features = backbone.net(images)
    finally:
        handle.remove()
    if seen[-1].ndim != 4 or seen[-1].shape[1] != backbone.dim:
        raise ValueError(f"backbone {backbone.name!r} has no maps of features that are read here")
    return features, seen[-1].permute(0, 2, 3, 1)


def with_blocks(student: Backbone) -> dict[str, nn.Module]:
    """The encoders of a method with this student: itself, and of a ViT one after each block but the last."""
    cut = range(vit.block_count(student.net) - 1) if vit.has_class_tokens(student.net) else ()
    return {"student": student, **{f"block_{i + 1}": vit.BlockEncoder(student.net, i, student.dim) for i in cut}}


def narrow_resnet(name: str, *, narrow_stem: bool) -> dict[str, Any]:
    """Arguments of timm's ResNet for a narrow one; of its stem only the width remains."""
    depth, width = NARROW.fullmatch(name).groups()  # type: ignore[union-attr]
    arguments: dict[str, Any] = {
        "layers": list(NARROW_LAYERS[depth]),
        "channels": [int(width) * factor for factor in (1, 2, 4, 8)],
    }
    if narrow_stem:  # timm has a stem of another width only where it is deep, and then twice stem_width
        arguments |= {"stem_type": "deep", "stem_width": (int(width) + 1) // 2}
    return arguments


def resolve_stem(stem: str, name: str, image_size: int) -> str:
    """The stem that `auto` and `narrow` stand for; `narrow` itself where it differs from `auto`.

    Args:
        stem, name, image_size: as for `Backbone`.
    """
    if stem not in ("auto", "narrow"):
        return stem
    match = NARROW.fullmatch(name)
    if match is None:
        return "small" if image_size <= SMALL_IMAGE else "imagenet"
    if stem == "narrow" and int(match[2]) < STEM_WIDTH:
        return "narrow"
    return "small" if _narrow_stride(image_size) == 1 else "stride2"


def _narrow_stride(image_size: int) -> int:
    return 1 if image_size <= 16 else 2


@contextmanager
def _named(name: str, image_size: int) -> Iterator[None]:
    """Libraries raise nearly anything for a network that cannot see images of a size.

    Raises: ValueError with the backbone, the size and the cause.
    """
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        if isinstance(error, ValueError) and repr(name) in str(error):
            raise
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"backbone {name!r} cannot be built for images of {image_size} px ({cause})") from error


def _build(name: str, image_size: int, pretrained: bool, *, narrow_stem: bool) -> nn.Module:
    """The network with its own stem, but for the width of a narrow one.

    Args:
        name, image_size, pretrained: as for `Backbone`.
        narrow_stem: whether the stem of a narrow ResNet is as wide as its first stage.
    """
    import timm

    if NARROW.fullmatch(name):
        from timm.models.resnet import BasicBlock, ResNet

        return ResNet(BasicBlock, **narrow_resnet(name, narrow_stem=narrow_stem), num_classes=0)
    if vit.NAME.fullmatch(name):
        return vit.build_vit(name, image_size)
    if WRN.fullmatch(name):
        return build_wrn(name)
    if WIDE.fullmatch(name):
        return build_wide(name)
    library, _, short = name.rpartition(":")
    if library in ("", "timm") and timm.is_model(short):
        return _timm(short, image_size, pretrained)
    if library in ("", "torchvision"):
        return _torchvision(short, image_size, pretrained)
    raise _unknown(name, timm.list_models())


def _timm(name: str, image_size: int, pretrained: bool) -> nn.Module:
    import timm

    published = timm.get_pretrained_cfg(name)
    if "vit" in name or (published is not None and published.fixed_input_size):
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=image_size)
        except TypeError as error:  # sizes are all the same to it, as to FastViT
            if "img_size" not in str(error):
                raise
    return timm.create_model(name, pretrained=pretrained, num_classes=0)


def _torchvision(name: str, image_size: int, pretrained: bool) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        import timm

        raise _unknown(name, timm.list_models() + models.list_models(module=models))
    sized = {"image_size": image_size} if name.startswith("vit_") else {}
    net = models.get_model(name, weights="DEFAULT" if pretrained else None, **sized)
    for head in ("fc", "classifier", "heads", "head"):
        if hasattr(net, head):
            setattr(net, head, nn.Identity())
            return net
    raise ValueError(f"backbone torchvision:{name} has no classifier that could be taken off")


def _unknown(name: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(name, {*known, *OWN}, n=3, cutoff=0.5)
    if (wide := OTHER_WRN.fullmatch(name)) and (own := f"wrn{wide[1]}_{wide[2]}") not in close:
        close = [own, *close]
    return ValueError(f"backbone {name!r} is unknown to timm and torchvision; near: {', '.join(close) or 'none'}")


def _output_dim(net: nn.Module, image_size: int) -> int:
    training = net.training
    with torch.no_grad():
        dim = net.eval()(torch.zeros(1, 3, image_size, image_size)).shape[1]
    net.train(training)
    return int(dim)

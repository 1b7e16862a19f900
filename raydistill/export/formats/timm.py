"""A folder that timm loads without raydistill."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.config import ConfigError
from raydistill.export.formats import copy_portable, preprocess
from raydistill.export.run import ResolvedRun
from raydistill.models.backbones import NARROW, Backbone, narrow_resnet
from raydistill.models.stems import is_mobile
from raydistill.models.vit import BlockEncoder
from raydistill.models.wide_resnets import WIDE, wide_resnet50

WEIGHTS = "model.safetensors"
NEEDS = "timm"
KEPT = ("first_conv", "classifier", "fixed_input_size")


class Spelled(NamedTuple):
    """A network in timm's words, and the stem that timm has no word for.

    A ResNet's convolution has the stride `stem_stride`; without pooling if its kernel is one of 3x3.
    """

    architecture: str
    arguments: dict[str, Any]
    stem_stride: int | None
    state: dict[str, Tensor]
    stem_kernel: int = 3


def write(encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
    """Write the format's files; the contract is `Format.write`.

    Args:
        encoder: the network.
        found: its run.
        folder: receives the files.
    """
    import timm

    spelled = _spell(encoder, found)
    save_file({name: value.contiguous() for name, value in spelled.state.items()}, folder / WEIGHTS)
    net = timm.create_model(spelled.architecture, num_classes=0, **spelled.arguments)
    known = {key: net.pretrained_cfg[key] for key in KEPT if key in net.pretrained_cfg}
    config = {
        "architecture": spelled.architecture,
        "num_classes": 0,
        "num_features": net.num_features,
        "model_args": spelled.arguments,
        "stem_stride": spelled.stem_stride,
        "stem_kernel": spelled.stem_kernel,
        "strides": _other_strides(encoder, net),
        "pretrained_cfg": known | _seen(json.loads((folder / "preprocessing.json").read_text())),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    copy_portable("load.py", folder)


def _seen(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The preprocessing as timm's own transforms take it."""
    size, crop = preprocessing["image_size"], preprocessing["crop"]
    return {
        "input_size": [3, size, size],
        "interpolation": "bilinear",
        "num_classes": 0,
        "mean": preprocessing["mean"],
        "std": preprocessing["std"],
        "crop_pct": size / preprocessing["resize"] if crop else 1.0,
        "crop_mode": "center" if crop else "squash",
    }


def _spell(encoder: nn.Module, found: ResolvedRun) -> Spelled:
    """Spell a network in timm's words. Raises ConfigError for one that is not timm's."""
    if isinstance(encoder, BlockEncoder):
        architecture, arguments = _vit(encoder.net)
        shorter = {**arguments, "depth": encoder.block + 1, "global_pool": "token"}
        return Spelled(architecture, shorter, None, encoder.net.state_dict())
    if not isinstance(encoder, Backbone) or not type(encoder.net).__module__.startswith("timm."):
        raise ConfigError(
            f"--format timm: the encoder {found.encoder!r} of {found.run} is no network of timm's; "
            "use safetensors, onnx, torch-export or mlflow"
        )
    net: Any = encoder.net
    own_stem = encoder.stem != "imagenet" and hasattr(net, "maxpool")
    if NARROW.fullmatch(encoder.name):
        architecture = "resnet18"
        arguments = narrow_resnet(encoder.name, narrow_stem=encoder.stem == "narrow")
    elif WIDE.fullmatch(encoder.name):
        architecture, arguments, own_stem = "resnet50", wide_resnet50(encoder.name), True
    else:
        architecture, arguments = _vit(net) if hasattr(net, "blocks") else _timm(net)
    if own_stem:
        return Spelled(architecture, arguments, net.conv1.stride[0], net.state_dict(), net.conv1.kernel_size[0])
    return Spelled(architecture, arguments, None, net.state_dict())


def _other_strides(encoder: nn.Module, plain: nn.Module) -> dict[str, int]:
    """The strides, by convolution, in which a MobileNet with a small stem differs from timm's."""
    if not isinstance(encoder, Backbone) or not is_mobile(encoder.net):
        return {}
    known = {name: module.stride for name, module in plain.named_modules() if isinstance(module, nn.Conv2d)}
    changed = {
        name: module.stride
        for name, module in encoder.net.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride != known[name]
    }
    return {name: int(stride[0]) for name, stride in changed.items()}


def _timm(net: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a network that timm's factory built."""
    return net.pretrained_cfg["architecture"], {k: v for k, v in net._model_args.items() if k != "num_classes"}


def _vit(net: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a ViT of timm's factory, or of `raydistill.models.vit`."""
    if hasattr(net, "pretrained_cfg"):
        return _timm(net)
    patches = net.patch_embed
    return "vit_tiny_patch16_224", {
        "img_size": patches.img_size[0],
        "patch_size": patches.patch_size[0],
        "embed_dim": net.embed_dim,
        "depth": len(net.blocks),
        "num_heads": net.blocks[0].attn.num_heads,
    }


def needs_load(folder: Path) -> bool:
    """Return whether `load.py` changes what timm builds."""
    config = json.loads((folder / "config.json").read_text())
    return bool(config["stem_stride"] or config["strides"])


def embed(folder: Path, images: list[np.ndarray]) -> Tensor:
    import timm

    if needs_load(folder):
        encoder = runpy.run_path(str(folder / "load.py"))["load"]()
    else:
        encoder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        result: Tensor = encoder(preprocess(folder, images))
    return result


def usage(folder: Path) -> str:
    if needs_load(folder):
        made = "from load import load\nfrom preprocess import preprocess\n\nencoder = load()"
    else:
        made = (
            "import timm\nfrom preprocess import preprocess\n\n"
            'encoder = timm.create_model("local-dir:.", pretrained=True).eval()'
        )
    return f'{made}\nembeddings = encoder(preprocess([open("image.png", "rb").read()]))'

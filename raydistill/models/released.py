"""Teachers published by others, read from their checkpoint files. Nothing but tensors is ever unpickled."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill.models.backbones import Backbone
from raydistill.models.layouts import (
    CLASSIFIERS,
    CONTAINERS,
    NAMED_HEAD,
    PLACES,
    RESNET_CHILDREN,
    TensorLayout,
    bare,
    detect_format,
)
from raydistill.models.teacher import Layer, Normalization, TeacherError, assemble_head

__all__ = ["detect_format", "load_released", "load_weights", "read_tensors"]

Tensors = dict[str, Tensor]
PICKLES = (b"PK", b"\x80")
COUNTER = "num_batches_tracked"
# DINO's checkpoints carry their command line; a Namespace is no more than a dictionary. Accuracies are often numbers of
# numpy, which version 1 and 2 name differently.
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *{type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")},
]
UNUSED = ("mask_token",)  # DINOv2 and others hide patches with it while they train
DINO_WIDTHS, DINO_HEAD = (192, 384, 768), 64


def load_released(
    path: Path, *, format: str = "auto", backbone: str, stem: str = "auto", image_size: int
) -> tuple[Backbone, nn.Sequential | None, Normalization]:
    """The network in a checkpoint file: backbone, SSL head if it is there, and the normalisation of its images.

    The normalisation is ImageNet's; SimCLR's own releases saw plain pixels. What a method does after its
    head, such as dividing by the norm, is left to who uses it.

    Args:
        path: written by torch.save, or safetensors.
        format: a key of `layouts.PLACES`, or auto.
        backbone, stem, image_size: as for `Backbone`. A ViT's position embeddings are resampled to the size.

    Raises: TeacherError naming the file for one that is damaged, holds more than tensors, or does not fit
    the backbone; ValueError for an unknown backbone.

    Sources: the repositories named in `layouts`.
    """
    tensors = read_tensors(path)
    if format not in ("auto", *PLACES):
        raise TeacherError(f"{path}: format {format!r} is unknown; valid: auto, {', '.join(PLACES)}")
    layout = detect_format(tensors) if format == "auto" else format
    network = Backbone(backbone, stem=stem, image_size=image_size)
    expected = network.net.state_dict()
    try:
        place = _place(tensors, layout, expected)
        load_weights(network, _backbone(tensors, place, expected))
        _compare_attention(layout, network)
        head = _head(_below(tensors, place.head), layout, network.dim) if place.head else None
    except TeacherError as error:
        raise TeacherError(f"{path}, read as {layout}: {error}") from None
    return network, head, place.normalization


def load_weights(network: Backbone, state: Tensors) -> None:
    """Load a backbone's tensors, also under its authors' names, and with position embeddings of another size.

    Raises: TeacherError unless names and shapes agree.
    """
    expected = network.net.state_dict()
    _compare_biases(state, expected, network.name)
    state = _renamed(state, expected, network.net)
    _resample_positions(state, expected, network.net)
    _compare(state, expected, network.name)
    network.net.load_state_dict(state, strict=False)


def read_tensors(path: Path) -> Tensors:
    """All tensors of a file by their bare names, nested names joined by dots.

    Raises: TeacherError for a file that is damaged or that would run code when unpickled.
    """
    try:
        with path.open("rb") as file:
            pickled = file.read(2).startswith(PICKLES)
        content = _unpickle(path) if pickled else load_file(path)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"an object of {named[1]}" if named else str(error).split(". ")[0]
        raise TeacherError(
            f"{path}: refused, and nothing in it was executed: it is damaged or holds more than tensors ({reason}); "
            "where you trust who wrote it, load it with the library that wrote it and save its state_dict alone"
        ) from None
    except Exception as error:  # a damaged file raises nearly anything
        raise TeacherError(f"{path}: not a checkpoint of tensors ({type(error).__name__}: {error})") from None
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    tensors = {bare(name): value for name, value in _flat(content, "")}
    if not tensors:
        raise TeacherError(f"{path}: holds no tensors")
    return tensors


def _unpickle(path: Path) -> Any:
    with torch.serialization.safe_globals(HARMLESS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flat(value, f"{prefix}{name}.")


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _place(tensors: Tensors, layout: str, expected: Tensors) -> TensorLayout:
    """The first place of the layout where there is a backbone, and its head if the place has one."""
    for place in PLACES[layout]:
        has_head = place.head is None or any(
            name != "weight" or not place.mlp for name in _below(tensors, place.head) if name != "bias"
        )
        if has_head and expected.keys() & _renumbered(_below(tensors, place.backbone), expected).keys():
            return place
    raise TeacherError(f"no such backbone in it; it has {_few(tensors)}; set teacher.format and teacher.backbone")


def _renumbered(state: Tensors, expected: Tensors) -> Tensors:
    """The names of a ResNet that was taken apart into a sequence of its children."""
    if "conv1.weight" not in expected or "0.weight" not in state:
        return state
    parts = {name: name.partition(".") for name in state}
    return {f"{RESNET_CHILDREN.get(first, first)}.{rest}": state[name] for name, (first, _, rest) in parts.items()}


def _backbone(tensors: Tensors, place: TensorLayout, expected: Tensors) -> Tensors:
    """The backbone's tensors, without heads and classifiers."""
    own = {name: value for name, value in tensors.items() if place.head is None or not name.startswith(place.head)}
    state = _renumbered(_below(own, place.backbone), expected)
    return {name: value for name, value in state.items() if name in expected or not name.startswith(CLASSIFIERS)}


def _renamed(state: Tensors, expected: Tensors, net: nn.Module) -> Tensors:
    """The names that timm has for a network as its authors release it, such as DINOv2's, by timm's own converters."""
    bare = {name: value for name, value in state.items() if name not in UNUSED or name in expected}
    if not bare.keys() - expected.keys():
        return bare
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return bare
    # By the mask token timm tells DINOv2's names; other files with one it takes for networks to be trained further.
    for given in (bare, state):
        try:
            with redirect_stdout(io.StringIO()):  # timm prints a line for each bias that the network lacks
                converted: Tensors = convert(dict(given), net)
        except (KeyError, RuntimeError, AttributeError, TypeError, ValueError):  # a file of another kind
            continue
        if not converted.keys() - expected.keys():
            return converted
    return bare


def _compare_biases(state: Tensors, expected: Tensors, backbone: str) -> None:
    """Raises TeacherError where timm would drop biases of DINOv3's attention that are not zero; keys have none."""
    for name, bias in state.items():
        own = name.replace("qkv.bias", "q_bias")
        if name.endswith("attn.qkv.bias") and "storage_tokens" in state and own not in expected:
            query, _, value = bias.chunk(3)
            if query.any() or value.any():
                raise TeacherError(
                    f"{name} is not zero, and {backbone} has no such bias; set teacher.backbone={backbone}_qkvb"
                )


def _resample_positions(state: Tensors, expected: Tensors, net: Any) -> None:
    """A ViT's position embeddings for another image size, as its authors do it."""
    name = "pos_embed"
    if name not in state or name not in expected or state[name].shape[1] == expected[name].shape[1]:
        return
    from timm.layers import resample_abs_pos_embed

    others = 0 if getattr(net, "no_embed_class", False) else net.num_prefix_tokens
    try:
        state[name] = resample_abs_pos_embed(state[name], list(net.patch_embed.grid_size), num_prefix_tokens=others)
    except RuntimeError:
        raise TeacherError(f"its {state[name].shape[1]} position embeddings are no square grid") from None


def _compare(state: Tensors, expected: Tensors, backbone: str) -> None:
    """Raises TeacherError unless names and shapes agree."""
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        found = [f"{what} {_few(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
        raise TeacherError(f"not the weights of {backbone}: {'; '.join(found)}; set teacher.backbone, teacher.format")
    different = [name for name, value in state.items() if value.shape != expected[name].shape]
    if different:
        name = different[0]
        stem = "; set teacher.stem (imagenet, small or stride2)" if name.startswith("conv1") else ""
        shapes = f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        raise TeacherError(f"not the weights of {backbone}: the shapes of {_few(different)} differ ({shapes}){stem}")


def _compare_attention(layout: str, network: Backbone) -> None:
    """Weights do not tell the number of attention heads: MoCo v3's ViT-S has 12, DINO's has 6."""
    blocks: Any = getattr(network.net, "blocks", None)
    if layout != "dino" or network.dim not in DINO_WIDTHS or not hasattr(blocks[0] if blocks else None, "attn"):
        return
    if (width := blocks[0].attn.head_dim) != DINO_HEAD:
        raise TeacherError(
            f"the attention heads of {network.name} are {width} wide and DINO's {DINO_HEAD}; "
            "set teacher.backbone to timm's, such as timm:vit_small_patch16_224"
        )


def _few(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    shown = ", ".join([first, *others[:2]])
    return f"{shown} and {len(others) - 2} more" if len(others) > 2 else shown


def _head(tensors: Tensors, layout: str, dim: int) -> nn.Sequential:
    """The layers that numbered tensors belong to; where a number is left out there is an activation.

    Args:
        tensors: `0.weight`, `0.bias`, ...; or `weight` and `bias` of a single layer.
        dim: of the features that go in.
    """
    if "weight" in tensors:
        tensors = {f"0.{name}": value for name, value in tensors.items()}
    layers: dict[int, Tensors] = {}
    for name, value in tensors.items():
        first, _, parameter = name.partition(".")
        number = NAMED_HEAD.get(first, first)
        if not number.isdigit():
            raise TeacherError(f"a head cannot be made of {_few(tensors)}")
        layers.setdefault(int(number), {})[parameter] = value
    activation: Layer = ["gelu" if layout == "dino" else "relu"]
    described = [_layer(layers[i]) if i in layers else activation for i in range(max(layers) + 1)]
    head = assemble_head(described)
    missing, _ = head.load_state_dict(
        {f"{i}.{name}": value for i, layer in layers.items() for name, value in layer.items()}, strict=False
    )
    if missing := [name for name in missing if not name.endswith(COUNTER)]:
        raise TeacherError(f"the head lacks {_few(missing)}")
    if (width := next(layer[1] for layer in described if layer[0] == "linear")) != dim:
        raise TeacherError(f"its head takes features of {width}, and the backbone's are {dim} wide")
    return head


def _layer(tensors: Tensors) -> Layer:
    weight = tensors.get("weight")
    if "running_mean" in tensors:
        return ["batchnorm", len(tensors["running_mean"]), weight is not None]
    if weight is None or weight.ndim != 2:
        raise TeacherError("a head cannot hold layers other than linear ones and batch norms")
    return ["linear", weight.shape[1], weight.shape[0], "bias" in tensors]

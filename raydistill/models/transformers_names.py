"""Networks of Hugging Face transformers: the network of timm with the same shape, and timm's names for the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from raydistill.models.teacher import TeacherError

Tensors = dict[str, Tensor]
Shape = tuple[int, int, int, bool]

# Hidden size, layers, attention heads, gated MLP: how timm calls the size.
PLAIN_SIZES: dict[Shape, str] = {
    (192, 12, 3, False): "tiny",
    (384, 12, 6, False): "small",
    (768, 12, 12, False): "base",
    (1024, 24, 16, False): "large",
}
DINOV2_SIZES: dict[Shape, str] = PLAIN_SIZES | {(1536, 40, 24, True): "giant"}
SIZES: dict[str, dict[Shape, str]] = {
    "vit": PLAIN_SIZES | {(1280, 32, 16, False): "huge"},
    "dinov2": DINOV2_SIZES,
    "dinov2_with_registers": DINOV2_SIZES,
    "dinov3_vit": PLAIN_SIZES
    | {(384, 12, 6, True): "small_plus", (1280, 32, 20, True): "huge_plus", (4096, 40, 32, True): "7b"},
}
ARCHITECTURES = {
    "vit": "vit_{size}_patch{patch}_224",
    "dinov2": "vit_{size}_patch{patch}_dinov2",
    "dinov2_with_registers": "vit_{size}_patch{patch}_reg4_dinov2",
    "dinov3_vit": "vit_{size}_patch{patch}_dinov3",
}
WIDTHS = {"basic": [64, 128, 256, 512], "bottleneck": [256, 512, 1024, 2048]}
RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
MODEL_TYPES = (*SIZES, "resnet")
HEAD_WIDTH = 32  # of the project's own ViTs of any width
GREATEST_EPS = 1e-5  # of layer norms; timm's have 1e-6 or 1e-5, and below that it makes no difference

# The first tensor of each network, with the prefix of its names before it.
ANCHORS = ("embeddings.cls_token", "embedder.embedder.convolution.weight")
UNUSED = ("pooler.", "classifier.", "embeddings.mask_token")
VIT_NAMES = (
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^(model\.|encoder\.)?layers?\.", "blocks."),
    (r"\.attention(\.attention)?\.(query|q_proj)\.", ".attn.q."),
    (r"\.attention(\.attention)?\.(key|k_proj)\.", ".attn.k."),
    (r"\.attention(\.attention)?\.(value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in|mlp\.up_proj)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
DINOV3_NAMES = (
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.attn\.([qv])\.bias$", r".attn.\1_bias"),
)
RESNET_NAMES = (
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.0\.layers\.", "layer1."),
    (r"^encoder\.stages\.1\.layers\.", "layer2."),
    (r"^encoder\.stages\.2\.layers\.", "layer3."),
    (r"^encoder\.stages\.3\.layers\.", "layer4."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"\.layer\.0\.convolution\.", ".conv1."),
    (r"\.layer\.0\.normalization\.", ".bn1."),
    (r"\.layer\.1\.convolution\.", ".conv2."),
    (r"\.layer\.1\.normalization\.", ".bn2."),
    (r"\.layer\.2\.convolution\.", ".conv3."),
    (r"\.layer\.2\.normalization\.", ".bn3."),
)


def backbone_of(config: dict[str, Any]) -> str:
    """The backbone that computes what the network of a transformers `config.json` does.

    Raises: TeacherError that names the setting that no backbone has.
    """
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise TeacherError(f"model_type {kind!r} cannot be read; readable: {', '.join(MODEL_TYPES)}")
    try:
        return _resnet_of(config) if kind == "resnet" else _vit_of(kind, config)
    except KeyError as error:
        raise TeacherError(f"{kind} without {error.args[0]}") from None
    except TypeError as error:
        raise TeacherError(f"{kind} with settings of another kind ({error})") from None


def timm_state(kind: str, tensors: Tensors) -> Tensors:
    """The backbone's weights under timm's names, without classifier, pooler and decoder.

    Args:
        kind: the `model_type`.
        tensors: under the names that transformers gives them, before version 5 and since.

    Raises: TeacherError for weights without such a backbone.
    """
    prefixes = [name.removesuffix(anchor) for name in tensors for anchor in ANCHORS if name.endswith(anchor)]
    if len(prefixes) != 1:
        raise TeacherError(f"the weights hold {len(prefixes) or 'no'} backbones of {kind}; one is needed")
    own = {name.removeprefix(prefixes[0]): value for name, value in tensors.items() if name.startswith(prefixes[0])}
    own = {name: value for name, value in own.items() if not name.startswith(UNUSED)}
    if kind == "resnet":
        return {_renamed(name, RESNET_NAMES): value for name, value in own.items()}
    state = {_renamed(name, VIT_NAMES): value for name, value in own.items()}
    if kind == "dinov3_vit":
        return _dinov3(state)
    if "reg_token" in state and {"cls_token", "pos_embed"} <= state.keys():  # timm's has no position of the class
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return _fused(state)


def _vit_of(kind: str, config: dict[str, Any]) -> str:
    patch = _side(config, "patch_size")
    gated = bool(config.get("use_gated_mlp" if kind == "dinov3_vit" else "use_swiglu_ffn", False))
    activation = "silu" if gated and kind == "dinov3_vit" else "gelu"
    _check(kind, config, "hidden_act", activation)
    if (eps := config.get("layer_norm_eps", GREATEST_EPS)) > GREATEST_EPS:
        raise TeacherError(f"{kind} with layer_norm_eps = {eps} cannot be read; at most {GREATEST_EPS} can")
    width, layers, heads = (int(config[name]) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    size = SIZES[kind].get((width, layers, heads, gated))
    architecture = ARCHITECTURES[kind].format(size=size, patch=patch)
    if kind == "dinov3_vit":
        _check(kind, config, "rope_theta", 100)
        _check(kind, config, "key_bias", False)
        biased = config.get("query_bias", True), config.get("value_bias", True)
        architecture += "_qkvb" if any(biased) else ""
    if size is not None and _known(architecture):
        return f"timm:{architecture}"
    if kind == "vit" and width == HEAD_WIDTH * heads:
        return f"vit_w{width}_p{patch}_d{layers}"
    sizes = ", ".join(f"{shape[0]} / {shape[1]} / {shape[2]}" for shape in SIZES[kind])
    mlp = " and a gated MLP" if gated else ""
    raise TeacherError(
        f"timm has no {kind} with hidden_size {width}, {layers} layers, {heads} heads, patch_size {patch}{mlp}; "
        f"known sizes, as hidden_size / layers / heads: {sizes}"
    )


def _resnet_of(config: dict[str, Any]) -> str:
    _check("resnet", config, "hidden_act", "relu")
    _check("resnet", config, "downsample_in_bottleneck", False)
    _check("resnet", config, "downsample_in_first_stage", False)
    _check("resnet", config, "embedding_size", 64)
    kind, depths = config.get("layer_type", "bottleneck"), tuple(config["depths"])
    _check("resnet", config, "hidden_sizes", WIDTHS.get(kind))
    name = RESNETS.get((kind, depths))
    if name is None:
        known = ", ".join(f"{list(depths)} of {kind}" for kind, depths in RESNETS)
        raise TeacherError(f"resnet with depths {list(depths)} of layer_type {kind!r} cannot be read; known: {known}")
    return f"timm:{name}"


def _check(kind: str, config: dict[str, Any], name: str, needed: Any) -> None:
    """Refuse a setting that the backbone does not have.

    Args:
        kind: the `model_type`.
        config: of the network.
        name: of the setting; one that is left out is as needed.
        needed: the value.

    Raises: TeacherError naming it.
    """
    if (value := config.get(name, needed)) != needed:
        raise TeacherError(f"{kind} with {name} = {value!r} cannot be read; {needed!r} can")


def _side(config: dict[str, Any], name: str) -> int:
    """A length in pixels, which transformers may write for height and width."""
    sides = config[name] if isinstance(config[name], list) else [config[name]]
    if len({*sides}) != 1:
        raise TeacherError(f"{name} = {sides} is not square")
    return int(sides[0])


def _known(architecture: str) -> bool:
    import timm  # docs/architecture.md#late-imports

    return bool(timm.is_model(architecture))


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _dinov3(state: Tensors) -> Tensors:
    """The names of timm's Eva. A gated MLP has two first layers; a missing bias of the three is zero."""
    gated = any(".mlp.gate_proj." in name for name in state)
    rules = ((r"\.mlp\.fc1\.", ".mlp.fc1_x."), *DINOV3_NAMES) if gated else DINOV3_NAMES
    state = _fused({_renamed(name, rules): value for name, value in state.items()})
    for block in _blocks(state):
        pair = [f"{block}attn.{part}_bias" for part in "qv"]
        if present := [state[name] for name in pair if name in state]:
            state |= {name: state.get(name, torch.zeros_like(present[0])) for name in pair}
    return state


def _fused(state: Tensors) -> Tensors:
    """Query, key and value of each block as the one layer that timm has. Parts alone stay as they are."""
    for block in _blocks(state):
        for what in ("weight", "bias"):
            parts = [f"{block}attn.{part}.{what}" for part in "qkv"]
            if all(name in state for name in parts):
                state[f"{block}attn.qkv.{what}"] = torch.cat([state.pop(name) for name in parts])
    return state


def _blocks(state: Tensors) -> Iterator[str]:
    found = {match[0] for name in state if (match := re.match(r"blocks\.\d+\.", name))}
    yield from sorted(found)

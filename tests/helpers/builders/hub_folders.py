"""Folders of networks as timm and transformers write them, with names written out by hand."""

import json

import timm
import torch
from safetensors.torch import save_file

from raydistill.models.hub_folders import load_folder, read_folder

WIDTH, LAYERS, HEADS = 96, 2, 3
VIT = {
    "model_type": "vit",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
    "patch_size": 4,
    "image_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def drawn(net):
    """Its parameters and batch statistics unlike those of any fresh network."""
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return net.eval()


def write(folder, config, state, *, preprocessor=None, shards=1, form="model.safetensors"):
    """A folder as the libraries leave it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    state = {name: value.contiguous().clone() for name, value in state.items()}
    save = save_file if form.endswith("safetensors") else torch.save
    if shards == 1:
        save(state, folder / form)
        return folder
    stem, _, kind = form.partition(".")
    files = {name: f"{stem}-{i % shards + 1:05}-of-{shards:05}.{kind}" for i, name in enumerate(state)}
    for file in set(files.values()):
        save({name: value for name, value in state.items() if files[name] == file}, folder / file)
    (folder / f"{form}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def loaded(folder, size=16):
    return load_folder(read_folder(folder), image_size=size).eval()


def tiny_vit(size=16):
    """timm's plain ViT, of a width and depth that no registered network has, and weights of its own."""
    return drawn(
        timm.models.VisionTransformer(
            img_size=size, patch_size=4, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0
        )
    )


def split(state, block, targets):
    """The three layers that timm fuses, under the names of `targets`."""
    parts = {}
    for what in ("weight", "bias"):
        thirds = state[f"{block}.attn.qkv.{what}"].chunk(3)
        parts |= {f"{name}.{what}": third for name, third in zip(targets, thirds, strict=True)}
    return parts


def as_vit(net, prefix="", version=4):
    """The state of timm's ViT under the names of transformers' ViTModel, before version 5 and since."""
    own = net.state_dict()
    state = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.position_embeddings": own["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
        "layernorm.weight": own["norm.weight"],
        "layernorm.bias": own["norm.bias"],
    }
    layers, qkv, rest = {
        4: (
            "encoder.layer",
            [f"attention.attention.{part}" for part in ("query", "key", "value")],
            {"attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"},
        ),
        5: (
            "layers",
            [f"attention.{part}_proj" for part in "qkv"],
            {"attention.o_proj": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
        ),
    }[version]
    rest |= {"layernorm_before": "norm1", "layernorm_after": "norm2"}
    for i in range(len(net.blocks)):
        state |= split(own, f"blocks.{i}", [f"{layers}.{i}.{part}" for part in qkv])
        for what in ("weight", "bias"):
            state |= {
                f"{layers}.{i}.{theirs}.{what}": own[f"blocks.{i}.{timms}.{what}"] for theirs, timms in rest.items()
            }
    return {prefix + name: value for name, value in state.items()}

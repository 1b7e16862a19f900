"""Folders that transformers itself writes, with its own output as the reference. Skipped where it is not installed."""

from functools import partial

import pytest
import timm
import torch
from helpers.builders.hub_folders import HEADS, LAYERS, WIDTH, loaded
from helpers.builders.teacher_networks import HALF, images

from raydistill.models.hub_folders import read_folder
from raydistill.models.transformers_names import RESNETS, SIZES

transformers = pytest.importorskip("transformers")

TINY = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
DINOV3 = {"patch_size": 16, "num_register_tokens": 4, "intermediate_size": 4 * WIDTH}


def made(name, **settings):
    """A network of transformers whose weights are unlike any fresh one's."""
    torch.manual_seed(0)
    network = getattr(transformers, f"{name}Model")
    net = network(getattr(transformers, f"{name}Config")(**settings))
    with torch.no_grad():
        for key, value in net.named_parameters():  # positions of usual size, beside which eps 1e-12 is as good as 1e-6
            value.add_(torch.randn_like(value) if "position" in key else 0.1 * torch.rand_like(value))
    return net.eval()


def classified(net, name):
    """The network below a new classifier."""
    whole = getattr(transformers, f"{name}ForImageClassification")(net.config)
    setattr(whole, whole.base_model_prefix, net)
    return whole


@pytest.fixture
def tiny(monkeypatch):
    """Let timm's networks of registered names have two blocks of the tiny width, and transformers' be of that size."""
    create = timm.create_model

    def shape(kind, called, *, gated=False, **other):
        arguments = {"depth": LAYERS, "embed_dim": WIDTH, "num_heads": HEADS}
        monkeypatch.setattr(timm, "create_model", partial(create, **arguments, **other))
        monkeypatch.setitem(SIZES[kind], (WIDTH, LAYERS, HEADS, gated), called)

    return shape


def close(folder, expected, size):
    with torch.no_grad():
        return torch.allclose(loaded(folder, size)(images(size)), expected, atol=1e-4)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("size", [{}, {"max_shard_size": "100KB"}])
def test_vit(tmp_path, whole, size):
    net = made("ViT", **TINY, intermediate_size=4 * WIDTH, image_size=16, patch_size=4)
    (classified(net, "ViT") if whole else net).save_pretrained(tmp_path, **size)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(size)
    assert close(tmp_path, net(images()).last_hidden_state[:, 0], 16)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "called", "gated"),
    [
        ("Dinov2", "dinov2", "small", False),
        ("Dinov2", "dinov2", "giant", True),
        ("Dinov2WithRegisters", "dinov2_with_registers", "small", False),
    ],
)
def test_dinov2(tmp_path, tiny, name, kind, called, gated, whole):
    tiny(kind, called, gated=gated)
    net = made(name, **TINY, image_size=28, patch_size=14, use_swiglu_ffn=gated)
    (classified(net, name) if whole else net).save_pretrained(tmp_path)
    assert close(tmp_path, net(images(28)).pooler_output, 28)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("called", "settings"),
    [
        ("small", {}),
        ("small", {"query_bias": False, "value_bias": False}),
        ("small_plus", {"use_gated_mlp": True, "hidden_act": "silu"}),
    ],
)
def test_dinov3(tmp_path, tiny, called, settings, size):
    """timm averages the patches, after the class token and four registers."""
    tiny("dinov3_vit", called, gated="use_gated_mlp" in settings)
    net = made("DINOv3ViT", **TINY, **DINOV3, **settings)
    net.save_pretrained(tmp_path)
    assert close(tmp_path, net(images(size)).last_hidden_state[:, 5:].mean(1), size)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_resnet(tmp_path, monkeypatch, kind, whole):
    monkeypatch.setitem(RESNETS, (kind, (1, 2, 1, 1)), "resnet18" if kind == "basic" else "resnet26")
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, layers=[1, 2, 1, 1]))
    widths = [64 * 2**i * (1 if kind == "basic" else 4) for i in range(4)]
    net = made("ResNet", depths=[1, 2, 1, 1], layer_type=kind, hidden_sizes=widths)
    (classified(net, "ResNet") if whole else net).save_pretrained(tmp_path)
    assert close(tmp_path, net(images(64)).pooler_output.flatten(1), 64)


@pytest.mark.parametrize("name", ["ViTImageProcessor", "BitImageProcessor"])
def test_normalization(tmp_path, name):
    made("ViT", **TINY, intermediate_size=4 * WIDTH, image_size=16, patch_size=4).save_pretrained(tmp_path)
    processor = getattr(transformers, name)(image_mean=list(HALF[0]), image_std=list(HALF[1]))
    processor.save_pretrained(tmp_path)
    assert read_folder(tmp_path).normalization == HALF

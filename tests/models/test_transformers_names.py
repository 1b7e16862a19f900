"""Networks of transformers under names written out by hand; timm's network with the same weights is the reference."""

from functools import partial

import pytest
import timm
import torch
from helpers.builders.hub_folders import HEADS, LAYERS, VIT, WIDTH, as_vit, drawn, loaded, split, tiny_vit, write
from helpers.builders.teacher_networks import images

from raydistill.models.hub_folders import read_folder
from raydistill.models.teacher import TeacherError
from raydistill.models.transformers_names import SIZES, backbone_of


class TestViT:
    @pytest.mark.parametrize("version", [4, 5])
    @pytest.mark.parametrize("prefix", ["", "vit.", "base_model.model.vit."])
    def test_features_are_those_of_the_network(self, tmp_path, prefix, version):
        net = tiny_vit()
        others = {"classifier.weight": torch.rand(3, WIDTH), f"{prefix}pooler.dense.weight": torch.rand(WIDTH, WIDTH)}
        folder = write(tmp_path / "vit", VIT, as_vit(net, prefix, version) | others)
        assert torch.allclose(loaded(folder)(images()), net(images()), atol=1e-6)
        assert read_folder(folder).backbone == "vit_w96_p4_d2"

    @pytest.mark.parametrize(
        ("shards", "form"), [(3, "model.safetensors"), (1, "pytorch_model.bin"), (2, "pytorch_model.bin")]
    )
    def test_other_files(self, tmp_path, shards, form):
        net = tiny_vit()
        folder = write(tmp_path / "vit", VIT, as_vit(net), shards=shards, form=form)
        assert torch.allclose(loaded(folder)(images()), net(images()), atol=1e-6)

    def test_half_precision(self, tmp_path):
        net = tiny_vit()
        folder = write(tmp_path / "vit", VIT, {name: value.half() for name, value in as_vit(net).items()})
        assert torch.allclose(loaded(folder)(images()), net(images()), atol=0.05)
        assert loaded(folder)(images()).dtype == torch.float32

    def test_at_another_size(self, tmp_path):
        source, net = tiny_vit(), tiny_vit(32)
        state = timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), net)
        net.load_state_dict(state)
        folder = write(tmp_path / "vit", VIT, as_vit(source))
        assert torch.allclose(loaded(folder, 32)(images(32)), net(images(32)), atol=1e-5)


def as_dinov2(net, whole):
    """The state of a timm network of DINOv2 as transformers names it; `whole` has a position for the class."""
    own = net.state_dict()
    own |= {"cls_token": own["cls_token"] - whole[:, :1], "pos_embed": whole} if "reg_token" in own else {}
    state = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.mask_token": torch.rand(1, WIDTH),
        "embeddings.position_embeddings": own["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
        "layernorm.weight": own["norm.weight"],
        "layernorm.bias": own["norm.bias"],
    }
    if "reg_token" in own:
        state["embeddings.register_tokens"] = own["reg_token"]
    gated = hasattr(net.blocks[0].mlp, "gate_last")
    first, last = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
    rest = {"attention.output.dense": "attn.proj", f"mlp.{first}": "mlp.fc1", f"mlp.{last}": "mlp.fc2"}
    rest |= {"norm1": "norm1", "norm2": "norm2"}
    for i in range(LAYERS):
        layer, block = f"encoder.layer.{i}", f"blocks.{i}"
        state |= split(own, block, [f"{layer}.attention.attention.{part}" for part in ("query", "key", "value")])
        state |= {f"{layer}.layer_scale{n}.lambda1": own[f"{block}.ls{n}.gamma"] for n in (1, 2)}
        for what in ("weight", "bias"):
            state |= {f"{layer}.{theirs}.{what}": own[f"{block}.{timms}.{what}"] for theirs, timms in rest.items()}
    return state


@pytest.fixture
def tiny(monkeypatch):
    """timm's networks of a registered name with two blocks of width 96, and their sizes under timm's names."""
    create = partial(timm.create_model, depth=LAYERS, embed_dim=WIDTH, num_heads=HEADS)
    monkeypatch.setattr(timm, "create_model", create)

    def network(kind, name, called, *, gated=False, size=28):
        monkeypatch.setitem(SIZES[kind], (WIDTH, LAYERS, HEADS, gated), called)
        net = create(name, img_size=size, num_classes=0)
        with torch.no_grad():
            for value in net.parameters():
                value.add_(0.1 * torch.rand_like(value))
        return net.eval()

    return network


@pytest.mark.parametrize("prefix", ["", "dinov2."])
@pytest.mark.parametrize(
    ("kind", "name", "called", "gated"),
    [
        ("dinov2", "vit_small_patch14_dinov2", "small", False),
        ("dinov2", "vit_giant_patch14_dinov2", "giant", True),
        ("dinov2_with_registers", "vit_small_patch14_reg4_dinov2", "small", False),
    ],
)
def test_dinov2(tmp_path, tiny, kind, name, called, gated, prefix):
    torch.manual_seed(0)
    net = tiny(kind, name, called, gated=gated)
    config = VIT | {"model_type": kind, "patch_size": 14, "use_swiglu_ffn": gated, "layer_norm_eps": 1e-6}
    state = as_dinov2(net, torch.cat([torch.rand(1, 1, WIDTH), net.pos_embed], dim=1))
    named = {prefix + name: value for name, value in state.items()} | {"classifier.weight": torch.rand(3, 2 * WIDTH)}
    folder = write(tmp_path / "dinov2", config, named)
    assert read_folder(folder).backbone == f"timm:{name}"
    assert torch.allclose(loaded(folder, 28)(images(28)), net(images(28)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "called", "gated", "biased"),
    [
        ("vit_small_patch16_dinov3", "small", False, False),
        ("vit_small_patch16_dinov3_qkvb", "small", False, True),
        ("vit_small_plus_patch16_dinov3_qkvb", "small_plus", True, True),
    ],
)
def test_dinov3(tmp_path, tiny, name, called, gated, biased):
    net = tiny("dinov3_vit", name, called, gated=gated, size=32)
    own = net.state_dict()
    state = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.mask_token": torch.rand(1, 1, WIDTH),
        "embeddings.register_tokens": own["reg_token"],
        "embeddings.patch_embeddings.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": own["patch_embed.proj.bias"],
        "norm.weight": own["norm.weight"],
        "norm.bias": own["norm.bias"],
    }
    pairs = {"attention.o_proj": "attn.proj", "norm1": "norm1", "norm2": "norm2", "mlp.down_proj": "mlp.fc2"}
    pairs |= {"mlp.up_proj": "mlp.fc1_x", "mlp.gate_proj": "mlp.fc1_g"} if gated else {"mlp.up_proj": "mlp.fc1"}
    for i in range(LAYERS):
        layer, block = f"layer.{i}", f"blocks.{i}"
        thirds = own[f"{block}.attn.qkv.weight"].chunk(3)
        state |= {f"{layer}.attention.{part}_proj.weight": third for part, third in zip("qkv", thirds, strict=True)}
        if biased:
            state |= {f"{layer}.attention.{part}_proj.bias": own[f"{block}.attn.{part}_bias"] for part in "qv"}
        state |= {f"{layer}.layer_scale{n}.lambda1": own[f"{block}.gamma_{n}"] for n in (1, 2)}
        for what in ("weight", "bias"):
            state |= {f"{layer}.{theirs}.{what}": own[f"{block}.{timms}.{what}"] for theirs, timms in pairs.items()}
    config = VIT | {
        "model_type": "dinov3_vit",
        "patch_size": 16,
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
        "layer_norm_eps": 1e-5,
        "query_bias": biased,
        "value_bias": biased,
        "key_bias": False,
        "rope_theta": 100.0,
        "num_register_tokens": 4,
    }
    folder = write(tmp_path / "dinov3", config, state)
    assert read_folder(folder).backbone == f"timm:{name}"
    for size in (32, 64):
        assert torch.allclose(loaded(folder, size)(images(size)), net(images(size)), atol=1e-5)


RESNET = {"model_type": "resnet", "embedding_size": 64, "hidden_act": "relu"}


@pytest.mark.parametrize("prefix", ["", "resnet."])
@pytest.mark.parametrize(("name", "kind"), [("resnet18", "basic"), ("resnet26", "bottleneck")])
def test_resnet(tmp_path, name, kind, prefix):
    net = drawn(timm.create_model(name, num_classes=0))
    own, state = net.state_dict(), {"classifier.1.weight": torch.rand(3, net.num_features)}
    for key, value in own.items():
        *path, layer, what = key.split(".") if "downsample" not in key else key.replace("downsample.", "").split(".")
        part = {"c": "convolution", "b": "normalization", "0": "convolution", "1": "normalization"}[layer[0]]
        if not path:
            state[f"{prefix}embedder.embedder.{part}.{what}"] = value
            continue
        inner = f"layer.{int(layer[-1]) - 1}" if "downsample" not in key else "shortcut"
        state[f"{prefix}encoder.stages.{int(path[0][-1]) - 1}.layers.{path[1]}.{inner}.{part}.{what}"] = value
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    folder = write(tmp_path / "resnet", RESNET | {"layer_type": kind, "depths": [2] * 4, "hidden_sizes": widths}, state)
    assert read_folder(folder).backbone == f"timm:{name}"
    torch.testing.assert_close(loaded(folder, 64)(images(64)), net(images(64)))


class TestUnsupported:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"model_type": "swin"}, "model_type 'swin' cannot be read; readable: vit, dinov2,"),
            ({"model_type": None}, "model_type None"),
            ({"hidden_act": "relu"}, "vit with hidden_act = 'relu'"),
            ({"layer_norm_eps": 0.001}, "layer_norm_eps = 0.001"),
            ({"num_attention_heads": 4}, "hidden_size 96, 2 layers, 4 heads, patch_size 4.*192 / 12 / 3"),
            ({"patch_size": [4, 8]}, "not square"),
            ({"model_type": "dinov2"}, "timm has no dinov2 with hidden_size 96"),
            ({"model_type": "dinov3_vit", "rope_theta": 10000}, "rope_theta = 10000"),
            ({"model_type": "dinov3_vit", "key_bias": True}, "key_bias = True"),
            ({"model_type": "resnet", "hidden_act": "relu"}, "resnet without depths"),
            (RESNET | {"depths": [1, 1, 1, 1], "hidden_sizes": [256, 512, 1024, 2048]}, r"depths \[1, 1, 1, 1\]"),
            (RESNET | {"depths": [3, 4, 6, 3], "downsample_in_bottleneck": True}, "downsample_in_bottleneck = True"),
            (RESNET | {"depths": [3, 4, 6, 3], "hidden_sizes": [1, 2]}, r"hidden_sizes = \[1, 2\]"),
        ],
    )
    def test_networks(self, tmp_path, settings, said):
        folder = write(tmp_path / "vit", VIT | settings, {"x": torch.zeros(1)})
        with pytest.raises(TeacherError, match=rf"config\.json: .*{said}"):
            read_folder(folder)

    def test_weights_of_another_kind(self, tmp_path):
        state = as_vit(tiny_vit())
        for wrong, said in [
            ({"x": torch.zeros(1)}, "hold no backbones of vit"),
            (state | as_vit(tiny_vit(), "other."), "hold 2 backbones"),
            ({name: value for name, value in state.items() if ".key." not in name}, r"missing blocks\.0\.attn\.qkv"),
        ]:
            folder = write(tmp_path / "vit", VIT, wrong)
            with pytest.raises(TeacherError, match=rf"vit, read as vit_w96_p4_d2 from transformers: .*{said}"):
                loaded(folder)


def of(kind, width, layers, heads, patch, **settings):
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "patch_size": patch}
    return {"model_type": kind, **shape, **settings}


UNBIASED = {"query_bias": False, "value_bias": False}
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (of("vit", 192, 12, 3, 16), "vit_tiny_patch16_224"),  # WinKawaks/vit-tiny-patch16-224
        (of("vit", 384, 12, 6, 8), "vit_small_patch8_224"),  # facebook/dino-vits8
        (of("vit", 768, 12, 12, [16, 16]), "vit_base_patch16_224"),  # google/vit-base-patch16-224
        (of("vit", 1024, 24, 16, 32), "vit_large_patch32_224"),  # google/vit-large-patch32-384
        (of("vit", 1280, 32, 16, 14), "vit_huge_patch14_224"),  # google/vit-huge-patch14-224-in21k
        (of("dinov2", 384, 12, 6, 14), "vit_small_patch14_dinov2"),  # facebook/dinov2-small
        (of("dinov2", 1536, 40, 24, 14, use_swiglu_ffn=True), "vit_giant_patch14_dinov2"),  # facebook/dinov2-giant
        (of("dinov2_with_registers", 1024, 24, 16, 14), "vit_large_patch14_reg4_dinov2"),
        (of("dinov3_vit", 384, 12, 6, 16), "vit_small_patch16_dinov3_qkvb"),
        (of("dinov3_vit", 384, 12, 6, 16, **GATED), "vit_small_plus_patch16_dinov3_qkvb"),
        (of("dinov3_vit", 1280, 32, 20, 16, **GATED), "vit_huge_plus_patch16_dinov3_qkvb"),
        (of("dinov3_vit", 4096, 40, 32, 16, **GATED, **UNBIASED), "vit_7b_patch16_dinov3"),
        (RESNET | {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]}, "resnet50"),  # microsoft/resnet-50
    ],
)
def test_sizes_that_people_use(config, expected):
    """timm's own network of the name has the shape."""
    assert backbone_of(config) == f"timm:{expected}"
    with torch.device("meta"):
        net = timm.create_model(expected, num_classes=0)
    if config["model_type"] == "resnet":
        assert [len(getattr(net, f"layer{i}")) for i in range(1, 5)] == config["depths"]
        return
    patch = config["patch_size"]
    block = net.blocks[0]
    assert net.patch_embed.patch_size == ((patch, patch) if isinstance(patch, int) else tuple(patch))
    assert (net.embed_dim, len(net.blocks)) == (config["hidden_size"], config["num_hidden_layers"])
    assert block.attn.num_heads == config["num_attention_heads"]
    assert net.global_pool == ("avg" if "dinov3" in expected else "token")

"""ViTs under their authors' names; the timm network that the weights were taken from is the reference."""

from functools import partial

import pytest
import timm
import torch
from helpers.builders.teacher_networks import IMAGENET, images

from raydistill.models.released import load_released
from raydistill.models.teacher import TeacherError


def drawn(net):
    """Its parameters unlike those of any fresh network; buffers, such as rotations, stay as they are computed."""
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * torch.rand_like(value))
    return net.eval()


@pytest.fixture
def small(monkeypatch):
    """timm's networks with one block, for the references and for the code under test."""
    create = partial(timm.create_model, depth=1)
    monkeypatch.setattr(timm, "create_model", create)
    return lambda name, size: drawn(create(name, img_size=size, num_classes=0))


def dinov3(net):
    """The state of timm's network with the keys of facebookresearch/dinov3."""
    own = net.state_dict()
    state = {
        "cls_token": own["cls_token"],
        "storage_tokens": own["reg_token"],
        "mask_token": torch.rand(1, net.embed_dim),
        "rope_embed.periods": torch.rand(net.embed_dim // net.blocks[0].attn.num_heads // 4).bfloat16(),
        "patch_embed.proj.weight": own["patch_embed.proj.weight"],
        "patch_embed.proj.bias": own["patch_embed.proj.bias"],
        "norm.weight": own["norm.weight"],
        "norm.bias": own["norm.bias"],
    }
    same = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    same += ("attn.qkv.weight", "attn.proj.weight", "attn.proj.bias")
    pairs = {name: name for name in same} | {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
    for block in (f"blocks.{i}." for i in range(len(net.blocks))):
        gated = f"{block}mlp.fc1_g.weight" in own
        layers = {"w1": "fc1_g", "w2": "fc1_x", "w3": "fc2"} if gated else {"fc1": "fc1", "fc2": "fc2"}
        mlp = {f"mlp.{a}.{what}": f"mlp.{b}.{what}" for a, b in layers.items() for what in ("weight", "bias")}
        state |= {block + theirs: own[block + timms] for theirs, timms in (pairs | mlp).items()}
        zeros = torch.zeros(net.embed_dim)
        query, value = (own.get(f"{block}attn.{part}_bias", zeros) for part in "qv")
        state[f"{block}attn.qkv.bias"] = torch.cat([query, torch.ones(net.embed_dim), value])
        state[f"{block}attn.qkv.bias_mask"] = torch.cat([zeros + 1, zeros, zeros + 1])
    return state


class TestDINOv3:
    """Its features are timm's: the mean over the patches. There are no position embeddings to resample."""

    @pytest.mark.parametrize("size", [64, 32])
    @pytest.mark.parametrize(
        "name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb"]
    )
    def test_as_released(self, tmp_path, capsys, small, name, size):
        source = small(name, 64)
        torch.save(dinov3(source), tmp_path / "dinov3_vits16_pretrain.pth")
        loaded, head, own = load_released(
            tmp_path / "dinov3_vits16_pretrain.pth", backbone=f"timm:{name}", image_size=size
        )
        same = small(name, size)
        same.load_state_dict(source.state_dict())
        assert torch.equal(loaded.eval()(images(size)), same(images(size)))
        assert (head, own) == (None, IMAGENET)
        assert capsys.readouterr().out == ""

    def test_a_checkpoint_of_its_training(self, tmp_path, small):
        name = "vit_small_patch16_dinov3"
        source = small(name, 32)
        teacher = {f"backbone.{key}": value for key, value in dinov3(source).items()}
        heads = {"dino_head.mlp.0.weight": torch.rand(4, 384), "ibot_head.last_layer.weight": torch.rand(4, 4)}
        torch.save({"teacher": teacher | heads}, tmp_path / "teacher_checkpoint.pth")
        loaded, head, _ = load_released(tmp_path / "teacher_checkpoint.pth", backbone=f"timm:{name}", image_size=32)
        assert torch.equal(loaded.eval()(images(32)), source(images(32)))
        assert head is None

    def test_biases_that_the_network_lacks_are_not_dropped(self, tmp_path, small):
        name = "vit_small_patch16_dinov3"
        torch.save(dinov3(small(f"{name}_qkvb", 32)), tmp_path / "file.pth")
        with pytest.raises(TeacherError, match=rf"attn\.qkv\.bias is not zero.*teacher\.backbone=timm:{name}_qkvb"):
            load_released(tmp_path / "file.pth", backbone=f"timm:{name}", image_size=32)

    def test_another_size_of_it(self, tmp_path, small):
        torch.save(dinov3(small("vit_small_patch16_dinov3", 32)), tmp_path / "file.pth")
        with pytest.raises(TeacherError, match="not the weights of timm:vit_base_patch16_dinov3"):
            load_released(tmp_path / "file.pth", backbone="timm:vit_base_patch16_dinov3", image_size=32)


REGISTERS = "vit_small_patch14_reg4_dinov2"


class TestRegisters:
    """DINOv2's with registers: timm's position embeddings are those of the patches alone."""

    def released(self, net):
        own = net.state_dict()
        of_class = torch.rand(1, 1, net.embed_dim)
        renamed = {
            "cls_token": own["cls_token"] - of_class,
            "pos_embed": torch.cat([of_class, own["pos_embed"]], dim=1),
            "register_tokens": own["reg_token"],
            "mask_token": torch.rand(1, net.embed_dim),
        }
        return {name: value for name, value in own.items() if name != "reg_token"} | renamed

    def test_as_released(self, tmp_path, small):
        source = small(REGISTERS, 42)
        torch.save(self.released(source), tmp_path / "dinov2_vits14_reg4.pth")
        loaded, _, _ = load_released(tmp_path / "dinov2_vits14_reg4.pth", backbone=f"timm:{REGISTERS}", image_size=42)
        assert torch.allclose(loaded.eval()(images(42)), source(images(42)), atol=1e-5)

    @pytest.mark.parametrize("whose", ["Meta", "timm"])
    def test_at_another_size(self, tmp_path, small, whose):
        source = small(REGISTERS, 70)
        torch.save(self.released(source) if whose == "Meta" else source.state_dict(), tmp_path / "file.pth")
        loaded, _, _ = load_released(tmp_path / "file.pth", backbone=f"timm:{REGISTERS}", image_size=42)
        expected = small(REGISTERS, 42)
        expected.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), expected))
        assert torch.allclose(loaded.eval()(images(42)), expected(images(42)), atol=1e-5)

    def test_positions_that_are_no_grid(self, tmp_path, small):
        state = small(REGISTERS, 70).state_dict()
        torch.save(state | {"pos_embed": state["pos_embed"][:, 1:]}, tmp_path / "file.pth")
        with pytest.raises(TeacherError, match="its 24 position embeddings are no square grid"):
            load_released(tmp_path / "file.pth", backbone=f"timm:{REGISTERS}", image_size=42)

"""Checkpoint files of released methods: every layout, what does not fit, and pickles that would run code."""

import argparse
import pickle
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import timm
import torch
from helpers.builders.teacher_networks import DIM, HALF, IMAGENET, NAME, SIZE, images, mlp, network, shaken
from safetensors.torch import save_file
from torch import nn

from raydistill.models.released import load_released
from raydistill.models.teacher import FrozenTeacher, TeacherError, describe_head, load_teacher, save_teacher

PLAIN_PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.fault(8)
class TestPicklesExecuteNothing:
    @pytest.mark.parametrize("zipped", [True, False])
    def test_torch_save(self, tmp_path, zipped):
        fired, path = tmp_path / "fired", tmp_path / "moco.pth"
        content = {"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(1), "x": Bomb(fired)}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        self.refused(path, fired)

    @pytest.mark.parametrize("protocol", [0, 2, 5])
    def test_bare_pickle(self, tmp_path, protocol):
        fired, path = tmp_path / "fired", tmp_path / "weights.pkl"
        path.write_bytes(pickle.dumps(Bomb(fired), protocol))
        self.refused(path, fired)

    def refused(self, path, fired):
        with pytest.raises(TeacherError, match=str(path)):
            load_released(path, backbone=NAME, image_size=SIZE)
        with pytest.raises(TeacherError, match=str(path)):
            load_teacher(path, HALF)
        assert not fired.exists()

    def test_the_reason_is_told(self, tmp_path):
        torch.save({"x": Bomb(tmp_path / "fired")}, tmp_path / "m.pth")
        with pytest.raises(TeacherError, match="nothing in it was executed"):
            load_released(tmp_path / "m.pth", backbone=NAME, image_size=SIZE)

    def test_a_whole_network(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "m.pth")
        with pytest.raises(TeacherError, match="state_dict"):
            load_released(tmp_path / "m.pth", backbone=NAME, image_size=SIZE)


class Callback:
    """An object of a training library, which a checkpoint may hold beside its tensors."""


def prefixed(prefix, module):
    return {prefix + name: value for name, value in module.state_dict().items()}


def children(backbone):
    """A ResNet as nn.Sequential(*children) names it."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    parts = {name: name.partition(".") for name in backbone.state_dict()}
    return {f"{numbers[first]}.{rest}": backbone.state_dict()[name] for name, (first, _, rest) in parts.items()}


def two_layers():
    return mlp(nn.Linear(DIM, 8), nn.ReLU(), nn.Linear(8, 6))


def with_batch_norm():
    return mlp(nn.Linear(DIM, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))


def dino_head():
    return mlp(nn.Linear(DIM, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 6))


def of_byol(backbone, head, other):
    """The three layouts of PyTorch implementations."""
    named = {"0": "l1", "1": "bn1", "3": "l2"}
    yaox12 = {f"online_network.encoder.{name}": value for name, value in children(backbone).items()}
    for name, value in head.state_dict().items():
        yaox12[f"online_network.projetion.{named[name[0]]}{name[1:]}"] = value
    online = {f"encoder.{name}": value for name, value in children(backbone).items()}
    return {
        "lucidrains": prefixed("net.", other)
        | prefixed("online_encoder.net.", backbone)
        | {"online_encoder.net.fc.weight": torch.zeros(3, DIM), "online_encoder.net.fc.bias": torch.zeros(3)}
        | prefixed("online_encoder.projector.", head)
        | prefixed("target_encoder.net.", other),
        "yaox12": {"epoch": 3, "model": {f"module.{name}": value for name, value in yaox12.items()}},
        "sthalles": {
            "online_network_state_dict": online | prefixed("projetion.net.", head),
            "target_network_state_dict": prefixed("encoder.", other),
        },
    }


def case(name):
    """(file content, backbone, head or None, format, normalisation) of a released layout."""
    backbone, other = network().net, network().net
    if name == "mocov2":
        head = two_layers()
        state = prefixed("module.encoder_q.", backbone) | prefixed("module.encoder_q.fc.", head)
        state |= prefixed("module.encoder_k.", other) | {"module.queue": torch.zeros(6, 4)}
        return {"epoch": 800, "arch": "resnet50", "state_dict": state}, backbone, head, "mocov2", IMAGENET
    if name == "mocov1":
        head = mlp(nn.Linear(DIM, 6))
        state = prefixed("module.encoder_q.", backbone)
        state |= {f"module.encoder_q.fc.{n[2:]}": value for n, value in head.state_dict().items()}
        return {"state_dict": state}, backbone, head, "mocov2", IMAGENET
    if name == "swav":
        head = with_batch_norm()
        state = prefixed("module.", backbone) | prefixed("module.projection_head.", head)
        return state | {"module.prototypes.weight": torch.zeros(9, 6)}, backbone, head, "swav", IMAGENET
    if name.startswith("byol"):
        head = with_batch_norm()
        layout = name.removeprefix("byol_")
        normalization = PLAIN_PIXELS if layout == "sthalles" else IMAGENET
        return of_byol(backbone, head, other)[layout], backbone, head, "byol", normalization
    if name == "simclr_sthalles":
        head = two_layers()
        state = prefixed("backbone.", backbone) | prefixed("backbone.fc.", head)
        return {"state_dict": state, "optimizer": {"state": {}}}, backbone, head, "simclr", PLAIN_PIXELS
    if name == "simclr_spijkervet":
        head = mlp(nn.Linear(DIM, 8, bias=False), nn.ReLU(), nn.Linear(8, 6, bias=False))
        return prefixed("encoder.", backbone) | prefixed("projector.", head), backbone, head, "simclr", PLAIN_PIXELS
    if name == "simclr_of_seed":
        head = with_batch_norm()
        state = prefixed("module.module.module.", backbone) | prefixed("module.module.module.fc.", head)
        return {"model": state}, backbone, head, "simclr", IMAGENET
    if name == "mocov3":
        head = with_batch_norm()
        state = prefixed("module.base_encoder.", backbone) | prefixed("module.base_encoder.fc.", head)
        state |= prefixed("module.momentum_encoder.", other) | prefixed("module.predictor.", two_layers())
        return {"epoch": 300, "arch": "resnet50", "state_dict": state}, backbone, head, "mocov3", IMAGENET
    if name.startswith("solo_learn"):
        head = two_layers()
        network_name = "encoder." if name == "solo_learn_old" else "backbone."
        state = prefixed(network_name, backbone) | prefixed("projector.", head)
        state |= {"classifier.weight": torch.zeros(10, DIM)} | prefixed(f"momentum_{network_name}", other)
        return {"state_dict": state, "best": np.float64(61.5)}, backbone, head, "solo-learn", IMAGENET
    if name == "vissl":
        trunk = {f"_feature_blocks.{n}": value for n, value in backbone.state_dict().items()}
        model = {"trunk": trunk, "heads": prefixed("0.clf.0.", two_layers())}
        content = {"phase_idx": 100, "classy_state_dict": {"base_model": {"model": model}}}
        return content, backbone, None, "vissl", IMAGENET
    if name == "openmmlab":
        state = prefixed("backbone.", backbone) | {"head.fc.weight": torch.zeros(10, DIM)}
        return {"meta": {"epoch": 200}, "state_dict": state}, backbone, None, "openmmlab", IMAGENET
    if name == "openmmlab_moco":
        state = prefixed("encoder_q.0.", backbone) | prefixed("encoder_q.1.mlp.", two_layers())
        return {"state_dict": state | prefixed("encoder_k.0.", other)}, backbone, None, "openmmlab", IMAGENET
    if name == "lightly_train":
        state = prefixed("teacher_embedding_model.wrapped_model._model.", backbone)
        state |= prefixed("student_embedding_model.wrapped_model._model.", other)
        return {"state_dict": state}, backbone, None, "lightly-train", IMAGENET
    if name == "dino_full":
        head = dino_head()
        teacher = prefixed("backbone.", backbone) | prefixed("head.mlp.", head)
        teacher |= {"head.last_layer.weight_v": torch.zeros(9, 6)}
        content = {"student": prefixed("module.backbone.", other), "teacher": teacher, "epoch": 3}
        return content | {"args": argparse.Namespace(lr=0.1)}, backbone, head, "dino", IMAGENET
    if name == "seed":
        head = two_layers()
        state = prefixed("module.student.", backbone) | prefixed("module.student.fc.", head)
        state |= prefixed("module.teacher.", other) | {"module.queue": torch.zeros(6, 4)}
        return {"state_dict": state}, backbone, head, "seed", IMAGENET
    if name == "seed_bare":
        head = two_layers()
        return prefixed("module.", backbone) | prefixed("module.fc.", head), backbone, head, "seed", IMAGENET
    assert name == "plain"
    state = prefixed("", backbone) | {"fc.weight": torch.zeros(10, DIM), "fc.bias": torch.zeros(10)}
    return state, backbone, None, "plain", IMAGENET


CASES = [
    "mocov2",
    "mocov1",
    "swav",
    "byol_lucidrains",
    "byol_yaox12",
    "byol_sthalles",
    "simclr_sthalles",
    "simclr_spijkervet",
    "simclr_of_seed",
    "mocov3",
    "solo_learn_old",
    "solo_learn_new",
    "vissl",
    "openmmlab_moco",
    "lightly_train",
    "dino_full",
    "seed",
    "seed_bare",
    "plain",
]


class TestReleased:
    @pytest.mark.parametrize("format", ["named", "auto"])
    @pytest.mark.parametrize("name", CASES)
    def test_layouts(self, tmp_path, name, format):
        content, backbone, head, layout, normalization = case(name)
        torch.save(content, tmp_path / "file.pth")
        format = "auto" if format == "auto" else layout
        loaded, loaded_head, own = load_released(tmp_path / "file.pth", format=format, backbone=NAME, image_size=SIZE)
        features = loaded.eval()(images())
        assert torch.equal(features, backbone(images()))
        assert own == normalization
        if head is None:
            assert loaded_head is None
        else:
            assert torch.equal(loaded_head.eval()(features), head(features))
            assert describe_head(loaded_head) == describe_head(head)

    @pytest.mark.parametrize("name", ["mocov2", "swav", "plain"])
    def test_safetensors(self, tmp_path, name):
        content, backbone, *_ = case(name)
        save_file(content.get("state_dict", content), tmp_path / "file.safetensors")
        loaded, _, _ = load_released(tmp_path / "file.safetensors", backbone=NAME, image_size=SIZE)
        assert torch.equal(loaded.eval()(images()), backbone(images()))

    def test_openmmlab_by_name(self, tmp_path):
        content, backbone, *_ = case("openmmlab")
        torch.save(content, tmp_path / "file.pth")
        loaded, _, _ = load_released(tmp_path / "file.pth", format="openmmlab", backbone=NAME, image_size=SIZE)
        assert torch.equal(loaded.eval()(images()), backbone(images()))

    def test_dinov2_as_released_at_another_size(self, tmp_path):
        """timm's own loading is the reference."""
        name = "vit_small_patch14_dinov2"
        released = timm.create_model(name, img_size=70, num_classes=0, depth=1).eval()
        state = released.state_dict() | {"mask_token": torch.zeros(1, 384)}
        torch.save(state, tmp_path / "dinov2_vits14.pth")
        expected = timm.create_model(name, img_size=42, num_classes=0, depth=1).eval()
        expected.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(released.state_dict(), expected))
        with patch.object(timm, "create_model", partial(timm.create_model, depth=1)):
            loaded, _, own = load_released(tmp_path / "dinov2_vits14.pth", backbone=f"timm:{name}", image_size=42)
        pixels = torch.rand(2, 3, 42, 42)
        assert torch.allclose(loaded.eval()(pixels), expected(pixels), atol=1e-5)
        assert own == IMAGENET

    def test_what_stands_in_the_way_is_named(self, tmp_path):
        torch.save({"state_dict": network().net.state_dict(), "callbacks": Callback()}, tmp_path / "file.ckpt")
        with pytest.raises(TeacherError, match=r"an object of [\w.]*Callback\); where you trust who wrote it"):
            load_released(tmp_path / "file.ckpt", backbone=NAME, image_size=SIZE)

    def test_files_written_before_torch_1_6(self, tmp_path):
        content, backbone, *_ = case("mocov2")
        torch.save(content, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
        loaded, _, _ = load_released(tmp_path / "old.pth.tar", backbone=NAME, image_size=SIZE)
        assert torch.equal(loaded.eval()(images()), backbone(images()))

    @pytest.mark.parametrize("format", ["byol", "simclr", "dino", "seed", "swav"])
    def test_backbones_alone_under_torchvisions_names(self, tmp_path, format):
        content, backbone, *_ = case("plain")
        torch.save({"state_dict": content}, tmp_path / "file.pth")
        loaded, head, own = load_released(tmp_path / "file.pth", format=format, backbone=NAME, image_size=SIZE)
        assert head is None
        assert own == (PLAIN_PIXELS if format == "simclr" else IMAGENET)
        assert torch.equal(loaded.eval()(images()), backbone(images()))

    @pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
    def test_torchvisions_names_load_into_timm_and_torchvision(self, tmp_path, name):
        from torchvision.models import resnet18

        source = shaken(resnet18(num_classes=4))
        torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / "file.pth")
        loaded, head, _ = load_released(tmp_path / "file.pth", backbone=name, stem="imagenet", image_size=32)
        source.fc = nn.Identity()
        assert head is None
        torch.testing.assert_close(loaded.eval()(images(32)), source(images(32)))

    def test_old_batch_norms_without_a_counter(self, tmp_path):
        content, backbone, head, *_ = case("swav")
        torch.save({k: v for k, v in content.items() if "num_batches" not in k}, tmp_path / "file.pth")
        loaded, loaded_head, _ = load_released(tmp_path / "file.pth", backbone=NAME, image_size=SIZE)
        features = loaded.eval()(images())
        assert torch.equal(features, backbone(images()))
        assert torch.equal(loaded_head.eval()(features), head(features))

    def test_a_teacher_of_it_survives_our_own_file(self, tmp_path):
        content, backbone, head, *_ = case("dino_full")
        torch.save(content, tmp_path / "file.pth")
        loaded, loaded_head, own = load_released(tmp_path / "file.pth", backbone=NAME, image_size=SIZE)
        save_teacher(FrozenTeacher(loaded, loaded_head, own, own), tmp_path / "t.safetensors", provenance={})
        teacher = load_teacher(tmp_path / "t.safetensors", own)
        assert torch.equal(teacher(images(), "head"), head(backbone(images())))


VIT = "vit_w32_p4_d2"


class TestViT:
    @pytest.mark.parametrize("bare", [True, False])
    def test_dino(self, tmp_path, bare):
        source = network(VIT).net
        state = prefixed("" if bare else "module.backbone.", source)
        torch.save(state if bare else {"student": state}, tmp_path / "file.pth")
        loaded, _, _ = load_released(tmp_path / "file.pth", format="dino", backbone=VIT, image_size=SIZE)
        assert torch.equal(loaded.eval()(images()), source(images()))

    def test_positions_are_resampled_to_the_image(self, tmp_path):
        source = network(VIT).net
        torch.save(source.state_dict(), tmp_path / "file.pth")
        loaded, _, _ = load_released(tmp_path / "file.pth", backbone=VIT, image_size=32)
        assert loaded.net.pos_embed.shape == (1, 1 + 8 * 8, 32)
        assert torch.equal(loaded.net.pos_embed[:, 0], source.pos_embed[:, 0])
        assert torch.equal(loaded.net.cls_token, source.cls_token)
        grid = loaded.net.pos_embed[:, 1:].mean(1)
        torch.testing.assert_close(grid, source.pos_embed[:, 1:].mean(1), rtol=0.1, atol=0.05)

    def test_dinos_vits_have_heads_of_64(self, tmp_path):
        torch.save(network("vit_tiny_p4_d1").net.state_dict(), tmp_path / "file.pth")
        with pytest.raises(TeacherError, match="attention heads"):
            load_released(tmp_path / "file.pth", format="dino", backbone="vit_tiny_p4_d1", image_size=SIZE)


class TestWhatDoesNotFit:
    def load(self, path, content, **options):
        torch.save(content, path / "file.pth")
        return load_released(path / "file.pth", **{"backbone": NAME, "image_size": SIZE, **options})

    def test_missing_and_unexpected_names(self, tmp_path):
        state = network().net.state_dict()
        del state["layer1.0.conv1.weight"]
        with pytest.raises(TeacherError, match=r"file\.pth.*missing layer1\.0\.conv1\.weight"):
            self.load(tmp_path, state)
        with pytest.raises(TeacherError, match="unexpected layer5"):
            self.load(tmp_path, network().net.state_dict() | {"layer5.weight": torch.zeros(1)})

    def test_another_depth_and_another_width(self, tmp_path):
        with pytest.raises(TeacherError, match=r"resnet18_w4.*missing .* and \d+ more"):
            self.load(tmp_path, network().net.state_dict(), backbone="resnet18_w4")
        with pytest.raises(TeacherError, match=r"resnet10_w8.*\(4, 64, 3, 3\), not \(8, 64, 3, 3\)"):
            self.load(tmp_path, network().net.state_dict(), backbone="resnet10_w8")

    def test_another_stem(self, tmp_path):
        source = network("torchvision:resnet18", 32, "imagenet").net
        with pytest.raises(TeacherError, match=r"\(64, 3, 7, 7\), not \(64, 3, 3, 3\).*teacher\.stem"):
            self.load(tmp_path, source.state_dict(), backbone="torchvision:resnet18", image_size=32)

    def test_another_format(self, tmp_path):
        with pytest.raises(TeacherError, match=r"read as mocov2: no such backbone.*bn1"):
            self.load(tmp_path, network().net.state_dict(), format="mocov2")
        with pytest.raises(TeacherError, match="valid: auto, mocov2"):
            self.load(tmp_path, network().net.state_dict(), format="mocov9")

    def test_heads_that_cannot_be(self, tmp_path):
        backbone = prefixed("encoder_q.", network().net)
        with pytest.raises(TeacherError, match="takes features of 7"):
            self.load(tmp_path, backbone | prefixed("encoder_q.fc.", mlp(nn.Linear(7, 2))))
        with pytest.raises(TeacherError, match="other than linear"):
            self.load(tmp_path, backbone | {"encoder_q.fc.0.weight": torch.zeros(2, 2, 1, 1)})
        with pytest.raises(TeacherError, match="cannot be made of"):
            self.load(tmp_path, backbone | {"encoder_q.fc.layer.weight": torch.zeros(2, 2)})
        lacking = prefixed("encoder_q.fc.", with_batch_norm())
        del lacking["encoder_q.fc.1.running_var"]
        with pytest.raises(TeacherError, match=r"lacks 1\.running_var"):
            self.load(tmp_path, backbone | lacking)

    @pytest.mark.fault(8)
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02 no pickle", b"<html>not found</html>"])
    def test_no_checkpoint_at_all(self, tmp_path, content):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(TeacherError, match=r"file\.pth"):
            load_released(tmp_path / "file.pth", backbone=NAME, image_size=SIZE)

    @pytest.mark.fault(8)
    def test_a_truncated_file(self, tmp_path):
        path = tmp_path / "file.pth"
        torch.save(network().net.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(TeacherError, match=r"file\.pth"):
            load_released(path, backbone=NAME, image_size=SIZE)

    @pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(2)], 5])
    def test_no_tensors(self, tmp_path, content):
        with pytest.raises(TeacherError, match="no tensors"):
            self.load(tmp_path, content)

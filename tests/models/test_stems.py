"""Small stems of MobileNets and EfficientNets, and what is said where they would help."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from raydistill import config, methods
from raydistill.methods import MethodContext
from raydistill.models.backbones import Backbone
from raydistill.models.teacher import FrozenTeacher, load_teacher, save_teacher

NETWORKS = [
    "mobilenetv3_small_050",
    "timm:mobilenetv2_050",
    "tinynet_e",
    "tf_efficientnet_b0",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
]
PIXELS = ((0.0,) * 3, (1.0,) * 3)


def sides(backbone):
    """Sides of the maps after each convolution that looks at neighbours, from the first to the last."""
    found = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.register_forward_hook(lambda module, inputs, output: found.append(output.shape[-1]))
    size = backbone.image_size
    assert backbone.eval()(torch.randn(1, 3, size, size)).shape == (1, backbone.dim)
    return found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("size", "own", "small", "stride2"), [(12, 1, 2, 1), (32, 1, 4, 2), (64, 2, 8, 4), (224, 7, 28, 14)]
)
def test_less_stride_leaves_larger_maps(name, size, own, small, stride2):
    last = {s: sides(Backbone(name, stem=s, image_size=size)) for s in ("auto", "imagenet", "small", "stride2")}
    assert {stem: maps[-1] for stem, maps in last.items()} == {
        "auto": own,
        "imagenet": own,
        "small": small,
        "stride2": stride2,
    }
    assert [last[stem][0] for stem in ("auto", "small", "stride2")] == [size // 2, size, size // 2]


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_stay_those_of_the_network_so_that_released_ones_fit(name):
    states = []
    for stem in ("auto", "small"):
        torch.manual_seed(0)
        states.append(Backbone(name, stem=stem, image_size=32).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", ["convnext_atto", "vit_w32_p8_d2", "torchvision:densenet121"])
def test_other_families_have_none(name):
    assert Backbone(name, image_size=64).stem == "imagenet"
    with pytest.raises(ValueError, match=rf"'{name}' has no stem to shrink; use method\.stem=imagenet"):
        Backbone(name, stem="small", image_size=64)


@pytest.mark.parametrize(
    ("name", "stem", "size", "said"),
    [
        ("mobilenetv3_small_050", "auto", 32, "mobilenetv3_small_050 reduces 32 px to maps of 1x1; .*=small keeps 4x4"),
        ("torchvision:mobilenet_v2", "narrow", 64, "reduces 64 px to maps of 2x2; .*=small keeps 8x8"),
        ("mobilenetv3_small_050", "small", 32, None),
        ("mobilenetv3_small_050", "auto", 96, None),
        ("resnet18", "auto", 32, None),
        ("vit_w32_p8_d2", "auto", 32, None),
    ],
)
def test_maps_of_hardly_a_pixel_are_mentioned_once(name, stem, size, said):
    options = config.load({"method": {"name": "dogo", "backbones": [name, name], "stem": stem}}).method
    lines = methods.advice(methods.build(options, MethodContext(size, 40), seed=0))
    assert len(lines) == (said is not None)
    if said:
        assert re.search(said, lines[0])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("vit_w32_p8_d2", "auto"),
        ("mobilenetv3_small_050", "auto"),
        ("mobilenetv3_small_050", "small"),
        ("wrn10_1", "auto"),
        ("wrn10_1", "stride2"),
        ("resnet10_w4", "auto"),
        ("resnet50x1", "auto"),
    ],
)
def test_a_teacher_is_read_with_the_stem_it_had(tmp_path, name, stem):
    teacher, images = network(name, stem), torch.randn(2, 3, 32, 32)
    save_teacher(teacher, tmp_path / "teacher.safetensors", provenance={})
    again = load_teacher(tmp_path / "teacher.safetensors", PIXELS)
    assert torch.equal(again(images, "features"), teacher(images, "features"))


@pytest.mark.parametrize(
    ("name", "written"), [("vit_w32_p8_d2", "small"), ("mobilenetv3_small_050", "small"), ("resnet10_w4", "stride2")]
)
def test_a_teachers_file_of_version_0_1_is_read_as_its_network_was(tmp_path, name, written):
    """It named no version, and the stem that auto gives a ResNet for any network."""
    teacher, images = network(name, "auto"), torch.randn(2, 3, 32, 32)
    path = tmp_path / "teacher.safetensors"
    save_teacher(teacher, path, provenance={})
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["teacher"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    del description["version"]
    save_file(state, path, metadata={"teacher": json.dumps({**description, "stem": written})})
    assert torch.equal(load_teacher(path, PIXELS)(images, "features"), teacher(images, "features"))


def network(name, stem):
    return FrozenTeacher(Backbone(name, stem=stem, image_size=32), None, PIXELS, PIXELS)

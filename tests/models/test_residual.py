"""Residual blocks that start as the identity, in every family, for students, peers, momentum networks and teachers."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from raydistill import config, methods
from raydistill.artifacts.identity import without_added
from raydistill.artifacts.teachers import provenance
from raydistill.config import ConfigError
from raydistill.data.sources import load_dataset
from raydistill.methods import MethodContext
from raydistill.models.backbones import Backbone
from raydistill.planning.resolve import teacher_configs

STORED = Path(__file__).parents[1] / "stored" / "v0.1.0"
BLOCKS = {"BasicBlock", "Bottleneck", "PreActBlock", "InvertedResidual", "DepthwiseSeparableConv", "MBConv"}


def identities(net, size=32):
    """Residual blocks that return what they are given, of all that could; a ReLU at the end changes nothing."""
    found = []

    def look(module, inputs, output):
        if inputs[0].shape == output.shape:
            found.append(torch.equal(output, inputs[0]))

    copies = [module.register_forward_hook(look) for module in net.modules() if type(module).__name__ in BLOCKS]
    torch.manual_seed(0)  # stochastic depth may skip a block of all four images
    net.train()(torch.rand(4, 3, size, size))
    for copy in copies:
        copy.remove()
    return found


@pytest.mark.parametrize(
    ("name", "blocks", "library"),
    # Blocks that keep the shape of their input, by the papers' tables; and whether the library zeroes them itself.
    [
        ("resnet18", 5, True),
        ("torchvision:resnet18", 5, False),
        ("resnet50", 12, True),
        ("torchvision:resnet50", 12, False),
        ("resnet34_w4", 12, True),
        ("resnet50x1", 12, True),
        ("wrn16_2", 3, False),
        ("wrn28_1", 10, False),
        ("timm:mobilenetv2_050", 10, False),
        ("torchvision:mobilenet_v2", 10, False),
        ("mobilenetv3_small_050", 7, False),  # at half width, 40 and 48 channels are both 24
        ("torchvision:mobilenet_v3_small", 6, False),
        ("efficientnet_b0", 9, False),
        ("torchvision:efficientnet_b0", 9, False),
    ],
)
def test_every_block_that_can_is_the_identity_or_none(name, blocks, library):
    backbone = Backbone(name, image_size=32)
    assert identities(backbone.net) == [library] * blocks, "as before, unless asked"
    for zero in (True, False):
        backbone = Backbone(name, image_size=32)
        backbone.init_residual(zero=zero)
        assert identities(backbone.net) == [zero] * blocks


def test_shortcuts_that_project_stay():
    backbone = Backbone("resnet18", image_size=32)
    backbone.init_residual(zero=True)
    norms = [block[0].downsample[1].weight for block in (backbone.net.layer2, backbone.net.layer3)]
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in norms)


def test_no_draw_is_made_or_missed():
    """All other weights are those of the same seed."""
    built = {}
    for zero in (None, True, False):
        options = config.load({"method": {"name": "simclr", "zero_init_residual": zero}}).method
        built[zero] = methods.build(options, MethodContext(16, 40), seed=3).state_dict()
    for name, value in built[None].items():
        assert torch.equal(value, built[True][name]), "timm's networks start as identities anyway"
        assert torch.equal(value, built[False][name]) == (".bn2.weight" not in name), name


@pytest.mark.parametrize(
    ("method", "networks"),
    [
        ({"name": "simclr"}, 1),
        ({"name": "byol", "hidden_dim": 8}, 2),
        ({"name": "dogo", "backbones": ["resnet10_w4", "torchvision:resnet18", "resnet10_w2"]}, 3),
        ({"name": "sssd", "clusters": 4}, 1),
    ],
)
@pytest.mark.parametrize("zero", [True, False])
def test_it_reaches_every_network_that_a_method_trains_or_averages(method, networks, zero):
    options = config.load({"method": {**method, "zero_init_residual": zero}}).method
    built = methods.build(options, MethodContext(16, 40, (10,) * 4 if method["name"] == "sssd" else ()), seed=0)
    backbones = [module for module in built.modules() if isinstance(module, Backbone)]
    assert len(backbones) == networks
    for backbone in backbones:
        last = [module for name, module in backbone.net.named_modules() if name.endswith(".bn2")]
        assert last
        assert all(torch.equal(norm.weight, torch.full_like(norm.weight, float(not zero))) for norm in last)


def test_a_network_without_such_blocks_is_refused():
    options = config.load({"method": {"name": "sdssl", "backbone": "vit_w32_d2", "zero_init_residual": True}}).method
    with pytest.raises(ValueError, match=r"'vit_w32_d2' has no residual blocks.*leave method\.zero_init_residual at"):
        methods.build(options, MethodContext(8, 40), seed=0)
    with pytest.raises(ConfigError, match=r"method\.zero_init_residual = 'maybe'"):
        config.load({"method": {"name": "simclr", "zero_init_residual": "maybe"}})


def test_a_teacher_has_its_own_setting_and_its_key_changes_with_it_alone():
    def made(**teacher):
        run = config.load({"method": "seed", "teacher": teacher, "data": {"limit": 40}})
        (recipe,) = teacher_configs(run, 1000)
        return recipe.method.zero_init_residual, provenance(recipe, load_dataset(recipe.data))

    (before, key), (none, same), (zero, other) = made(), made(zero_init_residual=None), made(zero_init_residual=False)
    assert (before, none, zero) == (None, None, False)
    assert key == same
    assert "zero_init_residual" not in json.dumps(key), "as version 0.1 had it"
    assert other == key | {"method": key["method"] | {"zero_init_residual": False}}


@pytest.mark.parametrize("path", sorted(STORED.rglob("config.yaml")), ids=lambda path: path.parent.name)
def test_runs_of_version_0_1_are_known_by_what_they_wrote(path):
    stored = yaml.safe_load(path.read_text())
    assert without_added(config.dump(config.load(stored))) == stored


def test_a_setting_that_another_method_always_had_is_left_out_of_the_method_that_got_it_alone():
    for name, found in (("seed", False), ("sssd", True)):
        settings = without_added(config.dump(config.load({"method": {"name": name}})))
        assert ("label_seed" in settings["method"]) == found


def test_settings_that_change_something_are_not_left_out():
    changed = {"data": {"kind": "aerial"}, "method": {"name": "simclr", "zero_init_residual": True}}
    found = without_added(config.dump(config.load(changed)))
    assert (found["data"]["kind"], found["method"]["zero_init_residual"]) == ("aerial", True)

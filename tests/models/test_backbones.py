"""Backbones by name: timm, torchvision and the narrow ResNets."""

import pytest
import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock
from torch import nn

from raydistill.models.backbones import Backbone
from raydistill.models.teacher import FrozenTeacher, load_teacher, save_teacher


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestBackbones:
    @pytest.mark.parametrize(
        ("name", "size", "dim"),
        [
            ("resnet18", 32, 512),
            ("torchvision:resnet18", 32, 512),
            ("resnet10_w16", 16, 128),
            ("resnet10t", 32, 512),
            ("mobilenetv3_small_050", 32, 1024),
            ("torchvision:mobilenet_v2", 32, 1280),
        ],
    )
    def test_timm_torchvision_and_narrow(self, name, size, dim):
        encoder = Backbone(name, image_size=size).eval()
        assert encoder(torch.randn(2, 3, size, size)).shape == (2, dim)
        assert encoder.dim == dim

    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("deit_tiny_patch16_224", 96),
            ("swin_tiny_patch4_window7_224", 96),
            ("torchvision:vit_b_16", 96),
            ("efficientvit_b0", 96),
            ("fastvit_t8", 96),
            ("torchvision:shufflenet_v2_x0_5", 64),
            ("mixer_s32_224", 96),
            ("coatnet_0_rw_224", 96),
        ],
    )
    def test_networks_are_built_for_the_size_of_the_images_whatever_their_library_calls_it(self, name, size):
        encoder = Backbone(name, image_size=size).eval()
        assert encoder(torch.randn(2, 3, size, size)).shape == (2, encoder.dim)

    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("torchvision:vit_b_16", 40),
            ("inception_v3", 64),
            ("crossvit_9_240", 96),
            ("convnext_atto", 16),
            ("resnet10_w0", 32),
        ],
    )
    def test_one_that_cannot_see_images_of_the_size_is_named_with_it(self, name, size):
        with pytest.raises(ValueError, match=rf"backbone '{name}' cannot be built for images of {size} px \("):
            Backbone(name, image_size=size)

    @pytest.mark.parametrize("name", ["vit_tiny_p0", "vit_w0", "vit_tiny_d0"])
    def test_a_vit_without_width_patch_or_blocks_is_refused(self, name):
        with pytest.raises(ValueError, match=f"backbone '{name}': width, patch and blocks must be at least 1"):
            Backbone(name, image_size=32)

    def test_small_stem_keeps_the_resolution(self):
        net = Backbone("resnet18", stem="small", image_size=32).net
        assert net.conv1.kernel_size == (3, 3)
        assert net.maxpool(net.conv1(torch.randn(1, 3, 32, 32))).shape[-2:] == (32, 32)
        assert Backbone("resnet18", stem="imagenet", image_size=32).net.conv1.kernel_size == (7, 7)

    def test_unknown_names_and_stems_are_explained(self):
        with pytest.raises(ValueError, match="resnet18"):
            Backbone("resnet81", image_size=32)
        with pytest.raises(ValueError, match=r"stem=imagenet"):
            Backbone("convnext_atto", stem="small", image_size=32)


class TestNarrowStem:
    @pytest.mark.parametrize(
        ("name", "stem", "dim"), [("resnet10_w16", 16, 128), ("resnet18_w8", 8, 64), ("resnet34_w5", 6, 40)]
    )
    @pytest.mark.parametrize("size", [12, 32, 64, 224])
    def test_is_as_wide_as_the_first_stage_and_strides_as_auto(self, name, stem, dim, size):
        narrow, auto = (Backbone(name, stem=chosen, image_size=size).eval() for chosen in ("narrow", "auto"))
        images = torch.randn(1, 3, size, size)
        assert narrow.net.conv1(images).shape == (1, stem, *auto.net.conv1(images).shape[-2:])
        assert narrow(images).shape == auto(images).shape == (1, dim)
        assert narrow.net.layer1(narrow.net.conv1(images)).shape == auto.net.layer1(auto.net.conv1(images)).shape

    def test_drops_only_what_64_channels_cost(self):
        """Weights of the stem and of the first convolution, and the shortcut's projection."""
        narrow, auto = (Backbone("resnet10_w16", stem=stem, image_size=32) for stem in ("narrow", "auto"))
        width, wide = 16, 64
        stem = (wide - width) * (3 * 9 + 2)
        first = (wide - width) * width * 9
        projection = wide * width + 2 * width
        assert parameters(auto) - parameters(narrow) == stem + first + projection

    @pytest.mark.parametrize("name", ["resnet10_w64", "resnet10_w80", "resnet18", "vit_w32_p4_d2", "mobilenet_v2"])
    def test_changes_nothing_where_the_first_stage_is_not_narrower(self, name):
        built = []
        for stem in ("narrow", "auto"):
            torch.manual_seed(0)
            built.append(Backbone("torchvision:" + name if "mobile" in name else name, stem=stem, image_size=32))
        narrow, auto = built
        assert narrow.stem == auto.stem
        assert all(torch.equal(a, b) for a, b in zip(narrow.parameters(), auto.parameters(), strict=True))

    def test_starts_as_the_stem_of_64_channels_does(self):
        weight = Backbone("resnet10_w32", stem="narrow", image_size=32).net.conv1.weight
        assert weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.15), "Kaiming, by the outputs"

    def test_a_teacher_with_one_is_read_again(self, tmp_path):
        pixels = ((0.0,) * 3, (1.0,) * 3)
        teacher = FrozenTeacher(Backbone("resnet10_w4", stem="narrow", image_size=32), None, pixels, pixels)
        save_teacher(teacher, tmp_path / "teacher.safetensors", provenance={})
        images = torch.randn(2, 3, 32, 32)
        again = load_teacher(tmp_path / "teacher.safetensors", pixels)
        assert torch.equal(again(images, "features"), teacher(images, "features"))


def narrow_of_version_0_1():
    channels = (16, 32, 64, 128)
    return with_stem(timm.models.resnet.ResNet(BasicBlock, (1, 1, 1, 1), channels=channels, num_classes=0), stride=2)


def with_stem(net, stride):
    net.conv1 = nn.Conv2d(3, 64, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


@pytest.mark.parametrize(
    ("name", "size", "build"),
    [
        ("resnet10_w16", 32, narrow_of_version_0_1),
        ("resnet18", 32, lambda: with_stem(timm.create_model("resnet18", num_classes=0), stride=1)),
        ("torchvision:resnet18", 224, torchvision.models.resnet18),
        ("mobilenetv3_small_050", 32, lambda: timm.create_model("mobilenetv3_small_050", num_classes=0)),
    ],
)
def test_initial_weights_are_those_of_version_0_1(name, size, build):
    torch.manual_seed(0)
    expected = build().state_dict()
    torch.manual_seed(0)
    for key, value in Backbone(name, image_size=size).net.state_dict().items():
        assert torch.equal(value, expected[key]), key

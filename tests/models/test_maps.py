"""Maps of features: their summary is the feature itself, and images of any size are taken."""

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from raydistill.models.backbones import Backbone, with_blocks
from raydistill.models.exits import Exit, ExitedResNet

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name",
    ["vit_w64_p4_d2", "resnet10_w8", "timm:convnext_atto", "torchvision:resnet18", "torchvision:mobilenet_v3_small"],
)
@torch.no_grad()
def test_the_summary_of_the_maps_is_the_feature(name):
    backbone = Backbone(name).eval()
    summary, maps = backbone.maps(IMAGES)
    assert torch.equal(summary, backbone(IMAGES))
    assert maps.shape[0] == 2
    assert backbone.maps(torch.randn(1, 3, 48, 64))[1].shape[1] <= backbone.maps(torch.randn(1, 3, 48, 64))[1].shape[2]


@torch.no_grad()
def test_a_convolutional_summary_is_the_mean_of_its_map():
    summary, maps = Backbone("resnet10_w8").eval().maps(IMAGES)
    assert torch.allclose(summary, maps.mean((1, 2)), atol=1e-6)


@torch.no_grad()
def test_each_block_of_a_vit_has_maps_of_any_size():
    vit = Backbone("vit_w64_p4_d3").eval()
    for name, encoder in with_blocks(vit).items():
        assert torch.equal(encoder.maps(IMAGES)[0], encoder(IMAGES)), name
        assert encoder.maps(torch.randn(1, 3, 40, 64))[1].shape == (1, 10, 16, 64)
    assert vit.net.patch_embed.img_size == (32, 32)
    assert vit(IMAGES).shape == (2, 64)  # the network itself keeps its size


def test_patches_must_divide_the_image():
    with pytest.raises(ValueError, match=r"patches of 4 px do not divide images of 42 by 64 px"):
        Backbone("vit_w64_p4_d1").maps(torch.randn(1, 3, 42, 64))


@torch.no_grad()
def test_an_exit_has_the_map_that_its_feature_pools():
    network = ExitedResNet(Backbone("resnet10_w8"), "conference").eval()
    exit_ = Exit(network, 1).eval()
    summary, maps = exit_.maps(IMAGES)
    assert torch.equal(summary, exit_(IMAGES))
    assert torch.allclose(adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), 1).flatten(1), summary)


@torch.no_grad()
def test_maps_with_channels_last_are_not_turned():
    swin = Backbone("timm:swin_tiny_patch4_window7_224", image_size=224).eval()
    summary, maps = swin.maps(torch.randn(1, 3, 224, 224))
    assert maps.shape == (1, 7, 7, 768)
    assert summary.shape == (1, 768)


@pytest.mark.parametrize("name", ["wrn10_2", "torchvision:swin_t"])
def test_a_network_without_maps_says_so(name):
    with pytest.raises(ValueError, match=f"'{name}' has no maps"):
        Backbone(name, image_size=32).maps(IMAGES)

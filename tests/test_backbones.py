"""Backbones by name: timm, torchvision and the narrow ResNets."""

import pytest
import torch

from raydistill.models.backbones import Backbone


class TestBackbones:
    @pytest.mark.parametrize(
        ("name", "size", "dim"),
        [("resnet18", 32, 512), ("torchvision:resnet18", 32, 512), ("resnet10_w16", 16, 128), ("resnet10t", 32, 512),
         ("mobilenetv3_small_050", 32, 1024), ("torchvision:mobilenet_v2", 32, 1280)],
    )  # fmt: skip
    def test_timm_torchvision_and_narrow(self, name, size, dim):
        encoder = Backbone(name, image_size=size).eval()
        assert encoder(torch.randn(2, 3, size, size)).shape == (2, dim)
        assert encoder.dim == dim

    def test_small_stem_keeps_the_resolution(self):
        net = Backbone("resnet18", stem="small", image_size=32).net
        assert net.conv1.kernel_size == (3, 3)
        assert net.maxpool(net.conv1(torch.randn(1, 3, 32, 32))).shape[-2:] == (32, 32)
        assert Backbone("resnet18", stem="imagenet", image_size=32).net.conv1.kernel_size == (7, 7)

    def test_unknown_names_and_stems_are_explained(self):
        with pytest.raises(ValueError, match="resnet18"):
            Backbone("resnet81", image_size=32)
        with pytest.raises(ValueError, match=r"stem=imagenet"):
            Backbone("mobilenetv3_small_050", stem="small", image_size=32)

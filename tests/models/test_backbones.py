"""Backbones by name: timm, torchvision and the narrow ResNets."""

import pytest
import torch

from raydistill.models.backbones import Backbone


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
            Backbone("mobilenetv3_small_050", stem="small", image_size=32)

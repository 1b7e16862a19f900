"""Batch norm over several GPUs computes what it did on one, in every family of backbones."""

import pytest
import torch
from torch import nn

from raydistill.models.backbones import Backbone
from raydistill.training.distributed import with_shared_norms

FAMILIES = [
    "resnet10_w4",
    "resnet18",
    "wrn10_2",
    "torchvision:resnet18",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "regnety_002",
    "densenet121",
    "vit_w64_p8_d4",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_conversion_changes_no_output(name):
    torch.manual_seed(0)
    network = Backbone(name, image_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        before = network(images)
        network = with_shared_norms(network)
        after = network(images)
    torch.testing.assert_close(after, before)
    if "vit" not in name:
        assert any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())

"""The encoder in this folder, by timm and torch alone."""

from __future__ import annotations

import json
from pathlib import Path

import timm
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).parent


def load() -> nn.Module:
    """Preprocessed images (N, 3, S, S) -> embeddings (N, D); in eval mode."""
    config = json.loads((FOLDER / "config.json").read_text())
    net = timm.create_model(
        config["architecture"], pretrained_cfg=config["pretrained_cfg"], num_classes=0, **config["model_args"]
    )
    if stride := config["stem_stride"]:  # a ResNet whose first convolution timm cannot spell
        kernel = config["stem_kernel"]
        net.conv1 = nn.Conv2d(3, net.bn1.num_features, kernel, stride=stride, padding=kernel // 2, bias=False)
        if kernel == 3:
            net.maxpool = nn.Identity()
    for name, stride in config["strides"].items():
        net.get_submodule(name).stride = (stride, stride)
    net.load_state_dict(load_file(FOLDER / "model.safetensors"))
    return net.eval()

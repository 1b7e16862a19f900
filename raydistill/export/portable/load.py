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
    if config["stem_stride"]:  # a ResNet that begins with a 3x3 convolution and has no max-pool
        net.conv1 = nn.Conv2d(3, net.bn1.num_features, 3, stride=config["stem_stride"], padding=1, bias=False)
        net.maxpool = nn.Identity()
    net.load_state_dict(load_file(FOLDER / "model.safetensors"))
    return net.eval()

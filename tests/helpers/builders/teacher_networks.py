"""Small networks whose weights are unlike any fresh one's, as teachers and released checkpoints."""

import copy

import torch
from torch import nn

from raydistill.models.backbones import Backbone

SIZE = 16
NAME = "resnet10_w4"
DIM = 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.5))


def shaken(module):
    """Weights and batch-norm statistics unlike those of any fresh network."""
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return module.eval()


def network(name=NAME, size=SIZE, stem="auto"):
    return shaken(Backbone(name, image_size=size, stem=stem))


def mlp(*layers):
    return shaken(copy.deepcopy(nn.Sequential(*layers)))


def images(size=SIZE):
    return torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(0))

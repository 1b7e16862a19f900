"""Networks under evaluation, and images whose class is their colour."""

import numpy as np
import torch
from torch import nn

from helpers.builders.datafiles import save
from raydistill import config
from raydistill.data.sources import load_dataset
from raydistill.evaluation.tasks.base import Subject
from raydistill.models.backbones import Backbone

CPU = torch.device("cpu")
COLOURS = ("blue", "green", "red")


class SeesColours(nn.Module):
    """Images (N, 3, S, S) -> (N, 3), 1 at the strongest channel, as `COLOURS` has the classes."""

    dim = 3

    def forward(self, images):
        return torch.eye(3)[images.mean((2, 3)).flip(1).argmax(1)]


def coloured(root, per_class=10):
    """A folder of plain images in the layout of image folders; a fifth of `train` will validate."""
    for split in ("train", "test"):
        for number, name in enumerate(COLOURS):
            for i in range(per_class):
                image = np.zeros((8, 8, 3), np.uint8)
                image[..., 2 - number] = 255 - i
                save(root / split / name / f"{i}.png", image)
    return root


def subject(encoder=None, source="digits", *, limit=60, seed=0, teachers=(), **eval_settings):
    """A network, else a small ResNet whose batch norms have seen images, and images of 8 pixels."""
    wanted = config.load(
        {
            "method": {"name": "simclr", "backbone": "resnet10_w4"},
            "data": {"source": str(source), "limit": limit, "image_size": 8, "batch_size": 8},
            "train": {"seed": seed},
            "eval": {"ks": [1], "probe": "logistic", **eval_settings},
        }
    )
    encoder = small() if encoder is None else encoder
    return Subject(encoder.eval(), load_dataset(wanted.data), wanted, CPU, teachers=teachers)


def small(name="resnet10_w4", seed=3):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = Backbone(name, image_size=8)
        network.train()(torch.randn(16, 3, 8, 8))
    return network.eval()

"""Encoders that need no training, and folders of images in one colour each, for tasks that search by features."""

from types import SimpleNamespace

import torch
from PIL import Image
from torch import nn

from raydistill.config import Config, DataConfig
from raydistill.data.sources import load_dataset
from raydistill.evaluation.tasks.base import Subject


class Colours(nn.Module):
    """An encoder whose feature is the mean colour, times `scale`, and whose map is the image; it notes what it sees."""

    def __init__(self, scale=(1.0, 1.0, 1.0), patch=None):
        super().__init__()
        self.scale, self.seen = torch.tensor(scale), []
        if patch:
            self.net = SimpleNamespace(patch_embed=SimpleNamespace(patch_size=patch))

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return images.mean((2, 3)) * self.scale

    def maps(self, images):
        return self(images), images.permute(0, 2, 3, 1)


class Square(nn.Module):
    """An encoder without maps, of the mean colour; it notes what it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return images.mean((2, 3))


def subject_of(encoder, source, *, image_size=32, folder=None):
    data = DataConfig(source="digits", image_size=image_size)
    config = Config(method="simclr", data=data)
    return Subject(encoder.eval(), load_dataset(data), config, torch.device("cpu"), source=str(source), folder=folder)


def paint(file, colour, size=(40, 30)):
    """Save an image of one colour, and its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, quality=95)

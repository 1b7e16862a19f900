"""The program of `torch.export`, for any number of images; torch alone runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.export.formats import preprocess
from raydistill.export.run import ResolvedRun

WEIGHTS = "encoder.pt2"
NEEDS = "torch, numpy and Pillow"


def write(encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
    """Write the format's files; the contract is `Format.write`.

    Args:
        encoder: the network.
        found: its run.
        folder: receives the files.
    """
    save_program(encoder, found.context["image_size"], folder / WEIGHTS)


def save_program(encoder: nn.Module, size: int, path: Path) -> None:
    """Save a program: images (N, 3, size, size) -> embeddings (N, dim), N from 1 up.

    Args:
        encoder: the network.
        size: of the images in pixels.
        path: the file.
    """
    program = torch.export.export(
        encoder, (torch.zeros(2, 3, size, size),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
    )
    torch.export.save(program, path)


def embed(folder: Path, images: list[np.ndarray]) -> Tensor:
    with torch.inference_mode():
        result: Tensor = torch.export.load(folder / WEIGHTS).module()(preprocess(folder, images))
    return result


def usage(folder: Path) -> str:
    return """\
import torch
from preprocess import preprocess

encoder = torch.export.load("encoder.pt2").module()
embeddings = encoder(preprocess([open("image.png", "rb").read()]))"""

"""One file of weights that says how its network is built; raydistill loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.artifacts.encoders import WEIGHTS as WEIGHTS
from raydistill.artifacts.encoders import load, save
from raydistill.export.formats import preprocess
from raydistill.export.run import ResolvedRun

NEEDS = "raydistill"


def write(encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
    """Write the format's files; the contract is `Format.write`.

    Args:
        encoder: the network.
        found: its run.
        folder: receives the files.
    """
    save(encoder, found.encoder, found.config, found.context, folder)


def embed(folder: Path, images: list[np.ndarray]) -> Tensor:
    with torch.inference_mode():
        return load(folder)(preprocess(folder, images))


def usage(folder: Path) -> str:
    return """\
from preprocess import preprocess
from raydistill.export import load

encoder = load(".")
embeddings = encoder(preprocess([open("image.png", "rb").read()]))"""

"""ONNX, for any number of images; onnxruntime and others run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.export.formats import preprocess, quiet
from raydistill.export.run import ResolvedRun

WEIGHTS = "encoder.onnx"
NEEDS = "onnxruntime, torch, numpy and Pillow"


def write(encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
    """Write the format's files; the contract is `Format.write`.

    Args:
        encoder: the network.
        found: its run.
        folder: receives the files.
    """
    size = found.context["image_size"]
    with quiet():
        torch.onnx.export(
            encoder,
            (torch.zeros(2, 3, size, size),),
            folder / WEIGHTS,
            dynamo=True,
            external_data=False,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )


def embed(folder: Path, images: list[np.ndarray]) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / WEIGHTS, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": preprocess(folder, images).numpy()})
    return torch.from_numpy(found)


def usage(folder: Path) -> str:
    return """\
import onnxruntime
from preprocess import preprocess

encoder = onnxruntime.InferenceSession("encoder.onnx")
(embeddings,) = encoder.run(None, {"images": preprocess([open("image.png", "rb").read()]).numpy()})"""

"""The encoder as an MLflow model: images in, embeddings out. Needs torch, numpy and Pillow."""

from __future__ import annotations

import base64
import runpy
from typing import Any

import mlflow
import numpy as np
import torch

BATCH = 64


class ImageEmbedder:
    """Has `predict`, apart from MLflow's class, which would let it take lists and refuse arrays."""

    preprocess: Any
    encoder: Any

    def predict(self, model_input: list[Any]):  # type: ignore[no-untyped-def]  # MLflow makes a schema of a type
        """Embeddings (N, D), float32, of a list of images, a table with one column of them, or an array (N, H, W, 3).

        An image is the bytes of a file, the same in base64, or an array (H, W, 3) of uint8.
        """
        column = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        images = [_decoded(image) for image in column]
        with torch.inference_mode():
            parts = [self.encoder(self.preprocess(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
        return torch.cat(parts).numpy()


class Encoder(ImageEmbedder, mlflow.pyfunc.PythonModel):
    """`torch.export`'s program of the encoder, and the preprocessing that it was trained with."""

    def load_context(self, context: Any) -> None:
        self.preprocess = runpy.run_path(context.artifacts["preprocess"])["preprocess"]
        self.encoder = torch.export.load(context.artifacts["encoder"]).module()


def _decoded(image: Any) -> Any:
    if isinstance(image, str):
        return base64.b64decode(image, validate=True)
    return np.array(image, np.uint8) if isinstance(image, list) else image


mlflow.models.set_model(Encoder())

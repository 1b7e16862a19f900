"""MLflow model whose `predict` takes images.

Its code is a file and its weights are `torch.export`'s program, so that prediction needs torch and Pillow but not
raydistill.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from raydistill.export.formats import copy_portable, quiet
from raydistill.export.formats.torch_export import save_program
from raydistill.export.run import ResolvedRun

WEIGHTS = "artifacts/encoder.pt2"
NEEDS = "mlflow, torch, numpy and Pillow"
PARTS = ("preprocess.py", "preprocessing.json", "encoder.pt2")


def write(encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
    """Write the format's files; the contract is `Format.write`.

    Args:
        encoder: the network.
        found: its run.
        folder: receives the files.
    """
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow
    from mlflow.types import Schema, TensorSpec

    size = found.context["image_size"]
    with tempfile.TemporaryDirectory() as passing, quiet():
        parts = Path(passing)
        for name in PARTS[:2]:
            (parts / name).write_bytes((folder / name).read_bytes())
        save_program(encoder, size, parts / PARTS[2])
        copy_portable("model.py", parts)
        model = mlflow.models.Model()
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(parts / "model.py"),
            mlflow_model=model,
            artifacts={Path(name).stem: str(parts / name) for name in PARTS},
            input_example=[_example(size)],
            pip_requirements=[f"{name}=={_release(name)}" for name in ("mlflow", "torch", "numpy", "pillow")],
        )
    # There is no type hint for arrays; MLflow knows them as tensors.
    model.signature.outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, encoder.dim))])
    _forget_where_it_was_made(model.flavors["python_function"])
    model.save(str(folder / "model" / "MLmodel"))
    (folder / "preprocess.py").unlink()
    for path in (folder / "model").iterdir():
        path.rename(folder / path.name)
    (folder / "model").rmdir()


def _forget_where_it_was_made(flavor: dict[str, Any]) -> None:
    """MLflow notes paths of this machine, which it never reads again."""
    flavor["model_code_path"] = "model.py"
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]


def _example(size: int) -> str:
    """A grey image, as a file in base64."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (128, 128, 128)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _release(package: str) -> str:
    """The version without the part that names a build, which no index knows."""
    return version(package).partition("+")[0]


def embed(folder: Path, images: list[np.ndarray]) -> Tensor:
    import mlflow

    with quiet():
        return torch.from_numpy(mlflow.pyfunc.load_model(str(folder)).predict(images))


def usage(folder: Path) -> str:
    return """\
import mlflow

encoder = mlflow.pyfunc.load_model(".")
embeddings = encoder.predict([open("image.png", "rb").read()])"""

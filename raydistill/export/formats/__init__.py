"""One module for each format: writes an encoder into a folder, and reads it back as its users will."""

from __future__ import annotations

import io
import logging
import runpy
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from raydistill.config import ConfigError, nearest
from raydistill.export.run import ResolvedRun

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

FORMATS = {
    "timm": (),
    "safetensors": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch-export": (),
    "mlflow": (),
}
"""What writing a format needs that not everybody has installed."""


class Format(Protocol):
    """Interface of a format's module.

    `WEIGHTS` is the path of the weights in the folder, `NEEDS` what its users must have installed.
    """

    WEIGHTS: str
    NEEDS: str

    def write(self, encoder: nn.Module, found: ResolvedRun, folder: Path) -> None:
        """Write what belongs to the format into a folder that has `preprocessing.json` and `preprocess.py`.

        Args:
            encoder: the network.
            found: its run.
            folder: receives the files.

        Raises:
            ConfigError: the format cannot express the encoder.
        """

    def embed(self, folder: Path, images: list[np.ndarray]) -> Tensor:
        """Read the export as its users will: images (H, W, 3) of uint8 to embeddings (N, dim)."""

    def usage(self, folder: Path) -> str:
        """Python that does so, typed in the folder, for an image in `image.png`."""


def check_format(name: str) -> None:
    """Refuse an unknown format, with the nearest name, or one whose library is missing. Raises ConfigError."""
    if name not in FORMATS:
        raise ConfigError(f"--format {name!r} is unknown{nearest(name, FORMATS)}")
    missing = [library for library in FORMATS[name] if find_spec(library) is None]
    if missing:
        raise ConfigError(f"--format {name} needs {', '.join(missing)}: pip install 'raydistill[export]'")


def open_format(name: str) -> Format:
    return cast(Format, import_module(f"{__name__}.{name.replace('-', '_')}"))


def copy_portable(name: str, folder: Path) -> None:
    """Put a file that runs without raydistill into an export."""
    with resources.as_file(resources.files("raydistill.export.portable") / name) as path:
        shutil.copyfile(path, folder / name)


def preprocess(folder: Path, images: list[np.ndarray]) -> Tensor:
    """Float32 (N, 3, S, S), by the export's own code."""
    return cast("Tensor", runpy.run_path(str(folder / "preprocess.py"))["preprocess"](images))


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters print their progress, and their libraries warn of each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

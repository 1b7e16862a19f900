"""Takes a run home: exports its encoder into formats that others load, and embeds images with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load(folder: str | Path) -> nn.Module:
    """The encoder in an export of `--format safetensors`, in eval mode; it has `dim`, its output width.

    It takes images as the export's `preprocess.py` makes them, (N, 3, S, S), and gives (N, dim).
    Raises: ConfigError for a folder that holds none, or a damaged one.
    """
    from raydistill.artifacts.encoders import load as read

    return read(Path(folder))

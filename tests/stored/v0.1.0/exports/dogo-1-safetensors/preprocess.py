"""Images to what the encoder takes, exactly as it was trained and scored. Needs torch, numpy and Pillow.

What is done is said in preprocessing.json, beside this file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

SETTINGS = Path(__file__).with_name("preprocessing.json")


def preprocess(images: Iterable[Any]) -> Tensor:
    """Float32 (N, 3, S, S). An image is a Pillow image, an array (H, W, 3) of uint8, or a file's bytes.

    Raises: ValueError for an array of another kind; whatever Pillow raises for bytes that it cannot read.
    """
    settings = json.loads(SETTINGS.read_text())
    return torch.stack([_one(image, settings) for image in images])


def _one(image: Any, settings: dict[str, Any]) -> Tensor:
    # In double precision, so that only the last rounding differs from how the images were trained.
    planes = torch.from_numpy(_rgb(image)).permute(2, 0, 1)[None].double() / 255
    size = settings["resize"]
    if isinstance(size, int):
        height, width = planes.shape[-2:]
        shorter = min(height, width)
        size = [size * height // shorter, size * width // shorter]
    planes = F.interpolate(planes, size, mode="bilinear", antialias=True)
    if settings["crop"]:
        top, left = (round((full - kept) / 2) for full, kept in zip(size, settings["crop"], strict=True))
        planes = planes[..., top : top + settings["crop"][0], left : left + settings["crop"][1]]
    mean, std = (torch.tensor(settings[name], dtype=torch.float64).view(3, 1, 1) for name in ("mean", "std"))
    return ((planes[0] - mean) / std).float()


def _rgb(image: Any) -> np.ndarray:
    """(H, W, 3) uint8, upright (EXIF)."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"array {image.dtype}, {image.shape}; accepted: uint8 of shape (H, W, 3)")
        return np.array(image)
    if isinstance(image, bytes | bytearray | memoryview):
        image = Image.open(io.BytesIO(image))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey: the high byte, where Pillow would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; give 8 or 16 bits")
    if image.mode == "P":
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))

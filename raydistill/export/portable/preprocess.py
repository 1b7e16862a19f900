"""Images to what the encoder takes, exactly as it was trained and scored. Needs torch, numpy and Pillow.

What is done is said in preprocessing.json, beside this file.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps
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
    pixels = _rgb(image, settings.get("levels"), settings.get("reduce"))
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
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


def _rgb(image: Any, levels: list[float] | None, reduce: int | None) -> np.ndarray:
    """(H, W, 3) uint8, upright (EXIF), in sRGB (ICC profile), transparent parts over grey, larger images reduced."""
    if reduce is None:
        return _whole(image, levels)
    if isinstance(image, bytes | bytearray | memoryview):
        image = Image.open(io.BytesIO(image))
    if isinstance(image, Image.Image) and (factor := 2 * reduce / min(image.size)) < 1:
        image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
    pixels = _whole(image, levels)
    height, width = pixels.shape[:2]
    factor = reduce / min(height, width)
    if factor >= 1:
        return pixels
    size = (max(reduce, round(width * factor)), max(reduce, round(height * factor)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _whole(image: Any, levels: list[float] | None) -> np.ndarray:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"array {image.dtype}, {image.shape}; accepted: uint8 of shape (H, W, 3)")
        return np.array(image)
    if isinstance(image, bytes | bytearray | memoryview):
        image = Image.open(io.BytesIO(image))
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.repeat(_eight_bits(np.asarray(image), levels)[..., None], 3, 2)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
        image = image.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    return np.array(_in_srgb(image, profile) if profile else image.convert("RGB"))


def _eight_bits(values: np.ndarray, levels: list[float] | None) -> np.ndarray:
    """Grey with more than 8 bits, or with floating-point numbers: `levels` become 0 and 255."""
    whole = values.dtype.kind != "f"
    if not (whole or np.isfinite(values).all()):
        raise ValueError("pixels that are no finite numbers")
    low, high = levels or _levels(float(values.min()), float(values.max()), whole)
    if whole and low == 0 and high in (255, 1023, 4095, 16383, 65535):
        return (values.clip(0, int(high)).astype(np.int64) >> (int(high).bit_length() - 8)).astype(np.uint8)
    return np.rint((values.astype(np.float64).clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _levels(smallest: float, largest: float, whole: bool) -> tuple[float, float]:
    """Black and white of one image, where none are given."""
    if smallest >= 0 and whole and largest <= 65535:
        return 0, next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if largest < 2**bits)
    if smallest >= 0 and largest <= 255 and not whole:
        return 0, 1 if largest <= 1 else 255
    return smallest, max(largest, smallest + 1e-12)


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        way = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        converted: Any = ImageCms.applyTransform(image, way)
    except (ImageCms.PyCMSError, ValueError, OSError):
        return image.convert("RGB")
    return converted

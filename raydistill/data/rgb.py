"""Images of any mode as upright RGB with 8 bits.

docs/images.md says for every kind what happens to it.
"""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

GROUND = (128, 128, 128)  # below transparent pixels: neither black nor white shapes vanish on it
_DEPTHS = (8, 10, 12, 14, 16)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
Levels = tuple[float, float]
"""The values that become black and white in images of more than 8 bits."""


def to_rgb(image: Image.Image, levels: Levels | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, upright by EXIF, transparency over grey, colours by the ICC profile in sRGB.

    Args:
        image: in any mode; of several frames the first one.
        levels: of images with more than 8 bits; None takes those of the image alone.
    """
    profile = image.info.get("icc_profile")
    ImageOps.exif_transpose(image, in_place=True)  # else it copies even what it does not turn
    if is_wide(image):
        low, high = levels or levels_of([image]) or (0.0, 255.0)
        return np.repeat(_scaled(_values(image), low, high)[..., None], 3, 2)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if image.has_transparency_data:
        image = _on_ground(image.convert("RGBA"))
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile:
        return np.array(_in_srgb(image, profile))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def decode_smaller(image: Image.Image, short_side: int) -> None:
    """Have a JPEG decoded at a half, a quarter or an eighth of its size, at least twice as large as it will be."""
    factor = 2 * short_side / min(image.size)
    if factor < 1:
        image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))


def reduced(rgb: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) to a short side, bicubic and antialiased; an image that is not larger stays as it is."""
    height, width = rgb.shape[:2]
    factor = short_side / min(height, width)
    if factor >= 1:
        return rgb
    size = (max(short_side, round(width * factor)), max(short_side, round(height * factor)))
    return np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def is_wide(image: Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits, or with floating-point numbers."""
    return image.mode.startswith(("I", "F"))


# docs/architecture.md#black-and-white-of-wide-images
def levels_of(images: Iterable[Image.Image]) -> Levels | None:
    """The values that become black and white, from a sample of images; None if none has more than 8 bits.

    Whole numbers: 0, and the largest number of the fewest bits (8, 10, 12, 14 or 16) that hold all values.
    Floating-point numbers: 0 and 1, or 0 and 255, whichever holds them. Else, and where there are values below 0: the
    smallest and the largest value.

    Raises:
        ValueError: a value is no finite number.
    """
    smallest, largest, whole = np.inf, -np.inf, True
    for image in images:
        if not is_wide(image):
            continue
        values = _values(image)
        smallest, largest = min(smallest, float(values.min())), max(largest, float(values.max()))
        whole = whole and values.dtype.kind != "f"
    if smallest > largest:
        return None
    if not np.isfinite([smallest, largest]).all():
        raise ValueError("pixels that are no finite numbers")
    if smallest >= 0 and whole and largest <= 65535:
        return 0.0, next(2.0**bits - 1 for bits in _DEPTHS if largest < 2.0**bits)
    if smallest >= 0 and largest <= 255 and not whole:
        return 0.0, 1.0 if largest <= 1 else 255.0
    return smallest, max(largest, smallest + 1e-12)


def _values(image: Image.Image) -> NDArray[np.generic]:
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixels that are no finite numbers")
    return values


def _scaled(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    if values.dtype.kind != "f" and low == 0 and high in (2**bits - 1 for bits in _DEPTHS):
        # The high bits, as Pillow does for colours of 16 bits.
        return (values.clip(0, int(high)).astype(np.int64) >> (int(high).bit_length() - 8)).astype(np.uint8)
    return np.rint((values.astype(np.float64).clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _on_ground(image: Image.Image) -> Image.Image:
    """Put an RGBA image over the ground; one without transparent pixels keeps its own to the bit."""
    low, _ = image.getchannel("A").getextrema()
    if low == 255:
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*GROUND, 255)), image).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way to sRGB; None where the image is in it already, or the profile is damaged or of another mode."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(own).lower():
            return None
        return ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, ValueError, OSError):
        return None


def open_encoded(data: bytes, check: Callable[[Image.Image], None]) -> Image.Image:
    """Open a file's bytes. A PNG whose texts are too long for Pillow, or whose profile is damaged, opens without them.

    Raises what Pillow raises for bytes that it cannot read.

    Args:
        data: of the file.
        check: raises for an image whose pixels are not to be read.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        _learn_heif()
    image = Image.open(io.BytesIO(_pixels_alone(data) if data.startswith(_SIGNATURE) else data))
    check(image)
    image.load()
    return image


@functools.cache
def _learn_heif() -> None:
    """Have Pillow read HEIC, which telephones write. Raises ValueError where the package for it is missing."""
    try:
        import pillow_heif
    except ImportError:
        raise ValueError("HEIC needs one package more: pip install pillow-heif") from None
    pillow_heif.register_heif_opener()


def _pixels_alone(data: bytes) -> bytes:
    """A PNG without its texts and profile; the other chunks stay as they are, damaged or not."""
    kept, place = [_SIGNATURE], len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            kept.append(data[place:end])
        place = end
    return b"".join(kept)

"""One split of images: decoding, the cache in memory, drawing splits. Legend: B batch, H height, W width."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from raydistill.data.decoded import DecodedFile, kept_on_disk
from raydistill.data.pool import pool
from raydistill.data.rgb import Levels, decode_smaller, is_wide, levels_of, open_encoded, reduced, to_rgb
from raydistill.errors import RaydistillError
from raydistill.machine import free_memory_of

MAX_PIXELS = 89_478_485  # where Pillow starts to warn of decompression bombs
LABELS = "labels: "
"""How notes begin that say where labels are missing; the table of a sweep repeats them."""
LARGE = 3 * 96 * 96  # numbers in an image; a batch of larger ones is a list, and nothing is copied
GPU_SHARE = 0.1  # of a GPU's free memory that images may take
LEVEL_SAMPLE = 64  # images of a source whose values say what is black and white


class BadImageError(RaydistillError, ValueError):
    """An image cannot be decoded; the message names the file, the Parquet row or the data set's index."""


class DataError(RaydistillError, ValueError):
    """The data are missing, ambiguous or too few; the message names the place and what would be accepted."""


@dataclass(frozen=True)
class Encoded:
    """Images as they are stored: `lengths()` (N,) in bytes, -1 where there are none, and `read(i)`."""

    lengths: Callable[[], np.ndarray]
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Raw:
    """One split as its source gives it, nothing decoded yet.

    `open(i)` gives image i in any of Pillow's modes and may raise; `name(i)` says where image i lies. `labels` (N,) are
    -1 where an image has none, and None where no image has one. `encoded` is None where the source has no files.
    `notes` say what was passed over and how the source was understood. `levels()` gives the values that are black and
    white in images of more than 8 bits; without it each image has its own. `key(i)` is the name of image i in its
    source, wherever that lies and whatever else is in it; None for sources that never grow. `state(rows)` gives bytes
    that tell these images from others, also when their files change. Images with a longer short side than `resize` are
    reduced to it.
    """

    count: int
    open: Callable[[int], Image.Image]
    name: Callable[[int], str]
    labels: Tensor | None
    classes: tuple[str, ...]
    encoded: Encoded | None = None
    notes: tuple[str, ...] = ()
    levels: Callable[[], Levels | None] | None = None
    key: Callable[[int], str] | None = None
    state: Callable[[np.ndarray], bytes] | None = None
    resize: int | None = None

    def labelled(self, rows: np.ndarray) -> np.ndarray:
        """Choose the rows that have a label; all of them where no image has one."""
        return rows if self.labels is None else rows[self.labels.numpy()[rows] >= 0]


def decode(raw: Raw, index: int) -> Tensor:
    """Image `index` as (3, H, W) uint8 RGB, upright (EXIF). Raises BadImage for whatever cannot be read."""
    try:
        with _opened(raw, index) as image:
            levels = raw.levels() if raw.levels is not None and is_wide(image) else None
            rgb = to_rgb(image, levels)
            return torch.from_numpy(reduced(rgb, raw.resize) if raw.resize else rgb).permute(2, 0, 1).contiguous()
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        unknown = isinstance(error, UnidentifiedImageError)  # its text names an object of Python
        reason = "no image of a kind that is read" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"{raw.name(index)}: unreadable image ({reason})") from error


def _opened(raw: Raw, index: int) -> Image.Image:
    """The image, its pixels not read yet. Raises ValueError for one that is too large to decode."""
    try:
        image = raw.open(index)
        _check_size(image)
        if raw.resize:
            decode_smaller(image, raw.resize)
        image.load()
    except Exception:
        if raw.encoded is None:
            raise
        image = open_encoded(raw.encoded.read(index), _check_size)
    return image


def state_of(files: Iterable[str | Path]) -> bytes:
    """Names, lengths, times and numbers of files, which change when the files do; of broken links the names alone."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(Path(file).absolute()))
        with suppress(OSError):
            stat = Path(file).stat()
            digest.update(repr((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)).encode())
    return digest.digest()


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels; at most {MAX_PIXELS} are accepted")


def shared_levels(raw: Raw) -> Callable[[], Levels | None]:
    """Black and white of a source's wide images, from a sample of them that is read when first asked for.

    Images that cannot be read do not count.
    """

    def sampled() -> Iterator[Image.Image]:
        for index in np.unique(np.linspace(0, raw.count - 1, LEVEL_SAMPLE).astype(int)).tolist():
            with suppress(Exception), _opened(raw, index) as image:
                if not is_wide(image) or np.isfinite(np.asarray(image)).all():
                    yield image

    return functools.cache(lambda: levels_of(sampled()))


class Decoder:
    """The chosen rows of a source, decoded when asked for, or once for all where there is room for them.

    A split and its subsets share one. With `skip`, `image` gives None for a bad image and notes it in `bad`.

    Args:
        raw: the source.
        rows: of it.
        skip: whether images that cannot be read are passed over.
        cache_bytes: memory for decoded images; they are kept there if all of them fit.
        disk_bytes: disk space for decoded images that do not fit in memory, for all data sets together.
    """

    def __init__(self, raw: Raw, rows: np.ndarray, *, skip: bool, cache_bytes: float, disk_bytes: float = 0.0) -> None:
        self.bad: set[int] = set()
        self.stacked: Tensor | None = None  # (N, 3, H, W), where all images have one size
        self.cached: list[Tensor | None] | None = None
        self.kept: DecodedFile | None = None
        self.raw, self.rows, self._skip, self._budget, self._disk = raw, rows, skip, cache_bytes, disk_bytes
        self.room = max(cache_bytes, disk_bytes if raw.state is not None else 0.0)
        self._prepared = False
        self._lock = threading.Lock()
        self._beside: dict[torch.device, Tensor | None] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, position: int) -> str:
        """The image's file or row, for messages."""
        return self.raw.name(int(self.rows[position]))

    def image(self, position: int) -> Tensor | None:
        """(3, H, W) uint8, from the cache where there is one."""
        if self.cached is not None:
            return self.cached[position]
        if self.kept is not None and (image := self.kept.image(position)) is not None:
            return image
        return None if position in self.bad else self._decode(position)

    def look(self, position: int) -> Tensor | BadImageError:
        """(3, H, W) uint8, or the error of an image that cannot be read; neither cached nor counted."""
        try:
            return decode(self.raw, int(self.rows[position]))
        except BadImageError as error:
            return error

    def prepare(self) -> None:
        """Fill the cache in memory or on disk, once, if there is room. Raises BadImage."""
        with self._lock:
            if not self._prepared:
                self._fill()
                if self.cached is None and self._disk > 0:
                    self.kept = kept_on_disk(self.raw, self.rows, self._decode, self._disk)
                self._prepared = True

    # docs/architecture.md#images-on-the-gpu
    def stacked_on(self, device: torch.device) -> Tensor | None:
        """All images (N, 3, H, W) on a GPU, copied there once; None where sizes differ or room is short."""
        with self._lock:
            if device not in self._beside:
                all_of_them, room = self.stacked, GPU_SHARE * free_memory_of(device)
                fits = all_of_them is not None and all_of_them.nbytes <= room
                self._beside[device] = all_of_them.to(device) if fits and all_of_them is not None else None
            return self._beside[device]

    def first(self) -> Tensor:
        """The first readable image. Raises BadImage when there is none."""
        for position in range(len(self)):
            image = self.image(position)
            if image is not None:
                return image
        raise BadImageError(f"all {len(self)} images are unreadable, the first of them {self.name(0)}")

    def _decode(self, position: int) -> Tensor | None:
        try:
            return decode(self.raw, int(self.rows[position]))
        except BadImageError as error:
            if not self._skip:
                raise BadImageError(f"{error}; --set data.on_bad_image=skip passes over such images") from error
            self.bad.add(position)
            return None

    def _fill(self) -> None:
        if self._budget <= 0 or (first := self.first()).nbytes * len(self) > self._budget:
            return
        stacked = torch.empty((len(self), *first.shape), dtype=torch.uint8)
        images: list[Tensor | None] = []
        uniform, used = True, 0
        for place, image in zip(stacked, pool().map(self._decode, range(len(self))), strict=True):
            if image is not None:
                used += image.nbytes
                uniform = uniform and image.shape == place.shape
                image = place.copy_(image) if image.shape == place.shape else image
            images.append(image)
            if used > self._budget:  # the first image was smaller than the others
                return
        self.cached, self.stacked = images, stacked if uniform else None


class Images:
    """One split: `len` images of (3, H, W) uint8 RGB, each in its own resolution.

    `size` is the resolution to train at, in pixels. `labels` is (N,) int64, -1 where an image has none, or None where
    none has; label k is `classes[k]`.
    """

    def __init__(
        self, decoder: Decoder, rows: Tensor, labels: Tensor | None, classes: tuple[str, ...], size: int
    ) -> None:
        self.labels, self.classes, self.size = labels, classes, size
        self._decoder, self._rows = decoder, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bad(self) -> int:
        """Unreadable images met so far, each counted once, over this split and all its subsets."""
        return len(self._decoder.bad)

    def fetch(
        self, indices: Sequence[int] | Tensor, device: torch.device | None = None
    ) -> tuple[list[Tensor] | Tensor, Tensor]:
        """The images at `indices`, and the indices really used, (B,) int64.

        One (B, 3, H, W) tensor when all have one size and are small, else a list of (3, h, w); on `device` where that
        is a GPU with room for all images. With on_bad_image=fail an unreadable image raises BadImage; with skip the
        next readable one, wrapping, stands in for it. Raises IndexError for an index outside 0..len-1.
        """
        wanted = self._checked(indices)
        self._decoder.prepare()
        if self._decoder.stacked is not None and not self._decoder.bad:
            rows = self._rows[wanted]
            if device is not None and (there := self._decoder.stacked_on(device)) is not None:
                return there[rows.to(device, non_blocking=True)], wanted
            return self._decoder.stacked[rows], wanted
        over = pool().map if self._decoder.cached is None and self._decoder.kept is None else map
        pairs = list(over(self._load, wanted.tolist()))
        images = [image for image, _ in pairs]
        used = torch.tensor([index for _, index in pairs], dtype=torch.int64)
        alike = len({image.shape for image in images}) == 1 and images[0].numel() <= LARGE
        return torch.stack(images) if alike else images, used

    @property
    def room(self) -> float:
        """Bytes of decoded images that are kept, in memory or on disk; where they are more, none is."""
        return self._decoder.room

    def peek(self, index: int) -> Tensor:
        """(3, h, w), one image without filling the cache; a stand-in as for `fetch`. Raises as `fetch`."""
        return self._load(int(self._checked([index])[0]))[0]

    def look(self, index: int) -> Tensor | BadImageError:
        """(3, h, w), or the error of an image that cannot be read, whatever is to become of such images."""
        return self._decoder.look(int(self._rows[index]))

    def name(self, index: int) -> str:
        """The file or row of an image, for messages."""
        return self._decoder.name(int(self._rows[index]))

    @property
    def part(self) -> tuple[Raw, np.ndarray]:
        """The source of these images, and their rows in it."""
        return self._decoder.raw, self._decoder.rows[self._rows.numpy()]

    def subset(self, indices: Sequence[int] | Tensor) -> Images:
        """The images at `indices`, in that order; shares the cache. Raises IndexError."""
        chosen = self._checked(indices)
        labels = None if self.labels is None else self.labels[chosen]
        return Images(self._decoder, self._rows[chosen], labels, self.classes, self.size)

    def _load(self, index: int) -> tuple[Tensor, int]:
        for step in range(len(self)):
            used = (index + step) % len(self)
            image = self._decoder.image(int(self._rows[used]))
            if image is not None:
                return image, used
        first = self._decoder.name(int(self._rows[0]))
        raise BadImageError(f"all {len(self)} images are unreadable, the first of them {first}")

    def _checked(self, indices: Sequence[int] | Tensor) -> Tensor:
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < len(self):
            raise IndexError(f"indices {int(wanted.min())}..{int(wanted.max())} of a split of {len(self)} images")
        return wanted

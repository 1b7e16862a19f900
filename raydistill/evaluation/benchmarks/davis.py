"""DAVIS 2017: its folder, a drawn one to try it out, and its measures J (region) and F (boundary).

Source of the measures: Perazzi et al., CVPR 2016, section 5; Pont-Tuset et al., arXiv 1704.00675; the semi-supervised
evaluation of github.com/davisvideochallenge/davis2017-evaluation, whose boundary, tolerance and decay these are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raydistill.errors import one_line
from raydistill.evaluation.tasks.base import TaskError

VOID = 255  # in annotations; counts as background
LAYOUT = (
    "a folder of DAVIS 2017 (trainval, 480p) has ImageSets/2017/val.txt, JPEGImages/480p/SEQUENCE/00000.jpg "
    "and Annotations/480p/SEQUENCE/00000.png"
)
TOLERANCE = 0.008  # of the image's diagonal
GOOD = 0.5  # a frame counts for the recall if it is better
QUARTERS = 4  # the decay compares the first with the last
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class VideoClip:
    """A sequence of frames of one size; every frame but the last has an annotation."""

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]


def read_davis(folder: Path) -> list[VideoClip]:
    """The sequences of `ImageSets/2017/val.txt`, their files checked.

    Raises: TaskError for what is missing, unreadable, or of another size or kind; the message names the file.
    """
    listing = folder / "ImageSets/2017/val.txt"
    if not listing.is_file():
        raise TaskError(f"{listing} is missing; {LAYOUT}")
    names = listing.read_text(encoding="utf-8", errors="replace").split()
    if not names:
        raise TaskError(f"{listing} is empty; it names a sequence in each line")
    return [_read_clip(folder, name) for name in names]


def _read_clip(folder: Path, name: str) -> VideoClip:
    place = folder / "JPEGImages/480p" / name
    frames = tuple(sorted(place.glob("*.jpg")))
    if not frames:
        raise TaskError(f"{place} has no frames (*.jpg), but ImageSets/2017/val.txt names {name}; {LAYOUT}")
    if len(frames) < 3:
        raise TaskError(f"{place} has {len(frames)} frames; the first and the last are not scored, so give 3 or more")
    annotations = tuple(folder / "Annotations/480p" / name / f"{frame.stem}.png" for frame in frames[:-1])
    expected, _ = _header(frames[0])
    for frame, annotation in zip(frames, annotations, strict=False):
        if not annotation.is_file():
            role = "the first frame, whose masks are carried on" if frame == frames[0] else frame.name
            raise TaskError(f"{annotation} is missing, the annotation of {role}; {LAYOUT}")
        for path in (frame, annotation):
            size, mode = _header(path)
            if size != expected:
                sizes = [f"{width}x{height}" for width, height in (size, expected)]
                raise TaskError(f"{path} has {sizes[0]} px; {sizes[1]} are expected, the size of {frames[0]}")
            if path is annotation and mode not in ("P", "L"):
                raise TaskError(f"{path} is an image of mode {mode}; a PNG with a palette is expected (mode P)")
    if not objects_of(read_labels(annotations[0])):
        raise TaskError(f"{annotations[0]} shows no object; pixels of object 1 have the palette's index 1")
    return VideoClip(name, frames, annotations)


def read_frame(path: Path) -> NDArray[np.uint8]:
    """A frame, (H, W, 3). Raises: TaskError."""
    with _readable(path), Image.open(path) as image:
        return np.array(image.convert("RGB"))


def read_labels(path: Path) -> Labels:
    """Object of each pixel (H, W) of an annotation; void is background. Raises: TaskError."""
    with _readable(path), Image.open(path) as image:
        found = np.array(image)
    return np.where(found == VOID, 0, found).astype(np.uint8)


def objects_of(labels: Labels) -> list[int]:
    """Numbers of the objects in an annotation, sorted; 0 is background."""
    return [number for number in np.unique(labels).tolist() if number]


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """Width and height of an image, and its mode."""
    with _readable(path), Image.open(path) as image:
        return image.size, image.mode


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name the file that cannot be read as an image. Raises: TaskError."""
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        raise TaskError(f"{path} is no readable image ({one_line(error)}); unpack it again") from error


def draw(folder: Path) -> Path:
    """Draw a tiny DAVIS of two sequences with moving shapes, in the real layout. Returns its folder."""
    root, width, height = folder / "DAVIS", 96, 64
    shades = np.linspace(60, 140, width, dtype=np.uint8)
    background = Image.fromarray(np.broadcast_to(shades[None, :, None], (height, width, 3)).copy())
    clips = {"disc": 1, "pair": 2}  # sequence: how many shapes
    for name, count in clips.items():
        places = [root / part / "480p" / name for part in ("JPEGImages", "Annotations")]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            frame, mask = background.copy(), Image.new("P", (width, height))
            mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            _shapes(frame, 4 * number, [(200, 30, 30), (30, 60, 220)][:count])
            _shapes(mask, 4 * number, [1, 2][:count])
            frame.save(places[0] / f"{number:05}.jpg", quality=95, subsampling=0)
            mask.save(places[1] / f"{number:05}.png")
    listing = root / "ImageSets/2017/val.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in clips))
    return root


def _shapes(canvas: Image.Image, moved: int, colours: Sequence[tuple[int, int, int] | int]) -> None:
    """Draw a disc, and with a second colour a square that moves against it.

    Args:
        canvas: 96 by 64 pixels.
        moved: pixels since the first frame.
        colours: of the shapes.
    """
    pen = ImageDraw.Draw(canvas)
    pen.ellipse((8 + moved, 4, 31 + moved, 27), fill=colours[0])
    if len(colours) > 1:
        pen.rectangle((64 - moved, 36, 87 - moved, 59), fill=colours[1])


class FrameStatistics(NamedTuple):
    """Mean over an object's frames, share of frames above 0.5, and loss from their first to their last quarter."""

    mean: float
    recall: float
    decay: float


def region_similarity(truth: Mask, found: Mask) -> float:
    """J, intersection over union of two masks (H, W); 1 where both are empty."""
    union = np.count_nonzero(truth | found)
    return np.count_nonzero(truth & found) / union if union else 1.0


def boundary_measure(truth: Mask, found: Mask) -> float:
    """F, harmonic mean of precision and recall of the pixels of two masks' boundaries (H, W).

    A pixel is right if the other boundary has one within 0.8% of the diagonal, rounded up to whole pixels. That is
    the same as the official dilation by a disk. F is 1 where neither mask has a boundary, 0 where one of them has.
    """
    real, claimed = (np.argwhere(boundary(mask)) for mask in (truth, found))
    if not len(real) or not len(claimed):
        return float(len(real) == len(claimed))
    tolerance = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    precision, recall = _share_near(claimed, real, tolerance), _share_near(real, claimed, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels of a mask (H, W) that differ from their neighbour on the right, below, or below on the right."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    found: Mask = (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])
    return found


def statistics(values: Sequence[float]) -> FrameStatistics:
    """Mean, recall and decay of the scores of an object in its frames, in order; neighbouring quarters share a frame.

    Raises: ValueError for no frame.
    """
    if not len(values):
        raise ValueError("statistics need the score of at least one frame")
    scores = np.asarray(values, dtype=float)
    # A half is rounded up, as in the official code, which adds 1e-10 to it.
    ends = np.floor(np.linspace(1, len(scores), QUARTERS + 1) + 0.5 + 1e-10).astype(int) - 1
    first, last = scores[: ends[1] + 1], scores[ends[-2] :]
    return FrameStatistics(float(scores.mean()), float((scores > GOOD).mean()), float(first.mean() - last.mean()))


def _share_near(points: NDArray[np.int_], others: NDArray[np.int_], distance: int) -> float:
    """Share of points (N, 2) that have one of the others (M, 2) within a distance.

    Args:
        points, others: rows and columns; neither is empty.
        distance: in pixels.
    """
    from scipy.spatial import KDTree  # docs/architecture.md#late-imports

    nearest, _ = KDTree(others).query(points, distance_upper_bound=distance + 1)
    return float((nearest <= distance).mean())

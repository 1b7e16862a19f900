"""Copy detection on Copydays (SDSSL, table 7): strongly edited copies should find their originals.

Settings: `eval_copy_detection.py` of facebookresearch/dino, at its defaults.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from raydistill.errors import one_line
from raydistill.evaluation.benchmarks.search import (
    average_precision,
    benchmark,
    describe,
    part,
    patch_of,
    rankings,
    scene,
)
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError
from raydistill.evaluation.tasks.names import TOY
from raydistill.training.memory import lost_device, out_of_memory

log = logging.getLogger(__name__)
SIDE = 320  # pixels
DEPTH = 20  # of a ranking: what comes later counts as not found
GEM_POWER = 4
GEM_FLOOR = 1e-6  # of features, before their power
WHITENING_POWER = 0.5
ENERGY_FLOOR = 1e-5  # of the largest eigenvalue: directions with less would be noise blown up
ORIGINALS, COPIES = 157, 229  # of Copydays, strong copies alone
BLOCK = 4  # characters of a name that an original shares with its copies
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


def score(subject: Subject) -> Findings:
    """Score `test_copies_map`: mean average precision of the 20 best for each strong copy of Copydays.

    Images are resized to 320x320, bicubic, whatever their shape; a ViT whose patches do not divide 320 px gets the
    nearest size that they divide. A feature is the class token and the GeM (p = 4) of the patch tokens, for a
    convolutional network its pooled feature and the GeM of its last map. Where there are images for it (`whitening/`
    or `train/`), features are whitened by what those have. Images in `distractors/` join the originals.

    Raises: TaskError for a folder in another layout, or a network without maps; BadImageError.
    """
    with benchmark(subject, draw) as folder:
        originals, copies = _images(folder, "original"), _images(folder, "strong")
        positives = _positives(originals, copies)
        distractors = _extra(folder, "distractors")
        learned_on = _extra(folder, "whitening") or _extra(folder, "train")
        if subject.source != TOY:
            _announce(folder, originals, copies, distractors, learned_on)
        feature = _features(subject)
        database, queries = feature([*originals, *distractors]), feature(copies)
        if learned_on:
            mean, projection = whitening(feature(learned_on))
            database, queries = ((each - mean) @ projection for each in (database, queries))
    ranked = rankings(queries, database)
    found = [average_precision(row, own, depth=DEPTH) for row, own in zip(ranked, positives, strict=True)]
    return Findings({"test_copies_map": float(np.mean(found))})


class CopyFeature(nn.Module):
    """Summary and GeM of an encoder's map: images (N, 3, H, W) -> (N, D + C)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        summary, maps = self.encoder.maps(images)  # type: ignore[operator]
        return torch.cat([summary.float(), gem(maps.float())], dim=1)


def gem(maps: Tensor) -> Tensor:
    """Generalised mean (N, C) of maps (N, H, W, C): the fourth root of the mean fourth power, of positive values."""
    return maps.clamp(min=GEM_FLOOR).pow(GEM_POWER).mean((1, 2)).pow(1 / GEM_POWER)


def whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and projection (D, D) that whiten features as these (N, D): `(x - mean) @ projection`.

    The projection has the eigenvectors of the second moments, each divided by the root of its eigenvalue. As in DINO's
    code, the moments are those around 0, not around the mean.
    """
    rows = features.double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    values = values.clamp(min=values.max().item() * ENERGY_FLOOR)
    return features.mean(0), (vectors * values.pow(-WHITENING_POWER)).float()


def _features(subject: Subject) -> Callable[[Sequence[Path]], Tensor]:
    """Return the function from files to features. Raises: TaskError for a network without maps of such images."""
    if not hasattr(subject.encoder, "maps"):
        raise TaskError("copies needs the network's maps of features; this one has nothing but a feature of each image")
    network = CopyFeature(subject.encoder)
    height, width = (max(round(SIDE / patch), 1) * patch for patch in patch_of(subject.encoder))
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, height, width, device=subject.device))
    except (ValueError, AssertionError, RuntimeError) as error:  # no maps, or images of one size alone
        if lost_device(error) or out_of_memory(error):
            raise
        raise TaskError(f"copies needs maps of features of {height}x{width} px images: {one_line(error)}") from error

    def resized(image: Image.Image) -> Image.Image:
        return image.resize((width, height), Image.Resampling.BICUBIC)

    return lambda files: describe(network, files, resized, subject)


def _images(folder: Path, name: str) -> list[Path]:
    """List the JPEG files of a part of Copydays. Raises: TaskError where there are none."""
    files = sorted(file for file in folder.glob(f"{name}/*") if _is_image(file, {".jpg", ".jpeg"}))
    if not files:
        raise TaskError(
            f"{folder / name}: no JPEG images; Copydays has original/200000.jpg, ... and strong/200001.jpg, ..."
        )
    return files


def _extra(folder: Path, name: str) -> list[Path]:
    """List images of any kind, in sub-folders too; none where there is no such folder."""
    files = sorted(file for file in folder.glob(f"{name}/**/*") if _is_image(file, SUFFIXES))
    if not files and (folder / name).is_dir():
        raise TaskError(f"{folder / name}: no images; fill this folder, or remove it")
    return files


def _is_image(file: Path, suffixes: set[str]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _positives(originals: Sequence[Path], copies: Sequence[Path]) -> list[list[int]]:
    """Return the indices of each copy's originals, which begin with the same four digits."""
    found = []
    for copy in copies:
        block = copy.name[:BLOCK]
        own = [index for index, original in enumerate(originals) if original.name[:BLOCK] == block]
        if not own:
            raise TaskError(
                f"{copy}: no original begins with {block!r}; Copydays names copies of original/200000.jpg "
                "200001.jpg, 200002.jpg, ..."
            )
        found.append(own)
    return found


def _announce(
    folder: Path, originals: list[Path], copies: list[Path], distractors: list[Path], white: list[Path]
) -> None:
    """Log what is scored, as a warning where Copydays is not whole."""
    level = logging.INFO if (len(originals), len(copies)) == (ORIGINALS, COPIES) else logging.WARNING
    log.log(
        level,
        "%s: %d originals (Copydays: %d) and %d distractors, %d strong copies (Copydays: %d), %d images for whitening",
        folder,
        len(originals),
        ORIGINALS,
        len(distractors),
        len(copies),
        COPIES,
        len(white),
    )


def draw(folder: Path) -> Path:
    """Draw a tiny data set in the layout of Copydays: coloured shapes, their copies cropped, dark and coarse."""
    home = folder / "copydays"
    for name in ("original", "strong", "distractors", "whitening"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for number in range(6):
        image = scene(number, 96, 72)
        image.save(home / "original" / f"{2000 + number}00.jpg", quality=90)
        for copy, share in enumerate((0.8, 0.6), 1):
            edited = part(image, share).point(lambda value: value * 3 // 4)
            edited.save(home / "strong" / f"{2000 + number}{copy:02}.jpg", quality=15)
    for number in range(4):
        scene(100 + number, 72, 96).save(home / "distractors" / f"{number}.jpg")
        scene(200 + number, 96, 96).save(home / "whitening" / f"{number}.jpg")
    return home

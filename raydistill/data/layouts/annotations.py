"""Labels of images in a file beside them, as published data sets and the Hugging Face Hub have them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from raydistill.data.images import DataError
from raydistill.data.layouts.tree import Folder, printable

METADATA = ("metadata.csv", "metadata.jsonl")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category")
TINY_IMAGENET = "val_annotations.txt"
KAGGLE_IMAGENET = "LOC_val_solution.csv"
IMAGENET = "meta.bin"  # of torchvision's layout


def labels_beside(folder: Folder, above: Path) -> tuple[Path, dict[str, str]] | None:
    """The labels that a file gives to the images of a folder: that file, and class names by path; None without one.

    - `metadata.csv` or `metadata.jsonl` in the folder, or in the one above it: `file_name`, relative to the file, and a
      column such as `label` (the Hub's image folders);
    - `val_annotations.txt`: names and classes, separated by tabs (Tiny-ImageNet);
    - `LOC_val_solution.csv` above: `ImageId`, and a prediction string that begins with the class (ImageNet at Kaggle);
    - `meta.bin` above, with a class for each image of a flat `val/` in sorted order (ImageNet by torchvision).

    Args:
        folder: of one split.
        above: the folder of all splits.

    Raises:
        DataError: such a file cannot be understood.
    """
    files = folder.files()
    for place in dict.fromkeys((folder.path, above)):
        for name in METADATA:
            if (place / name).is_file() and (found := dict(_metadata(place / name))):
                return place / name, {file: found[file] for file in files if file in found}
    by_name = {Path(file).name: file for file in files}
    if (table := folder.path / TINY_IMAGENET).is_file():
        rows = [line.split("\t") for line in _text(table).splitlines() if line.strip()]
        return table, {by_name[row[0]]: row[1] for row in rows if len(row) > 1 and row[0] in by_name}
    if (table := above / KAGGLE_IMAGENET).is_file():
        predictions = csv.DictReader(_text(table).splitlines())
        solution = {row["ImageId"]: row["PredictionString"].split()[0] for row in predictions}
        return table, {file: solution[Path(file).stem] for file in files if Path(file).stem in solution}
    if folder.name.lower() == "val" and (table := above / IMAGENET).is_file():
        return table, dict(zip(files, _imagenet(table, len(files)), strict=True))
    return None


def _metadata(file: Path) -> Iterator[tuple[str, str]]:
    """Paths and class names, of the rows that have a label."""
    lines = [line for line in _text(file).splitlines() if line.strip()]
    try:
        rows = list(csv.DictReader(lines)) if file.suffix == ".csv" else [json.loads(line) for line in lines]
    except ValueError as error:
        raise DataError(f"{_shown(file)}: cannot be understood ({error})") from None
    if not rows:
        return
    column = next((name for name in _LABEL_COLUMNS if name in rows[0]), None)
    if column is None:
        return
    for row in rows:
        if "file_name" not in row:
            raise DataError(f"{_shown(file)}: no column file_name; it has {', '.join(map(str, row))}")
        label = row[column]
        if isinstance(label, list | dict):
            raise DataError(f"{_shown(file)}: {column} holds several values; accepted: one class for each image")
        if label not in (None, "", -1, "-1"):
            yield str(file.parent / row["file_name"]), str(label)


def _imagenet(file: Path, count: int) -> list[str]:
    import torch

    try:
        _, classes = torch.load(file, weights_only=True)
    except Exception as error:  # unpickling raises nearly anything
        raise DataError(f"{_shown(file)}: not torchvision's list of ImageNet's classes ({error})") from None
    if len(classes) != count:
        raise DataError(f"{_shown(file)}: {len(classes)} classes for {count} images of val")
    return list(classes)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{_shown(file)}: cannot be read ({error})") from None


def _shown(file: Path) -> str:
    return printable(str(file))

"""Images in WebDataset's tar files: `KEY.jpg` beside `KEY.cls`. Nothing is unpacked; the pixels are read in place."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raydistill.data.images import DataError, Encoded, Raw, state_of
from raydistill.data.layouts.folders import numbers_first
from raydistill.data.layouts.tree import is_image_name, printable

CLASS_NAMES = "classnames.txt"


@dataclass
class _Samples:
    """Place of each image: its shard, the start and the length of its bytes; and its name and label."""

    shard: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)


def read_webdataset(shards: dict[str, list[Path]]) -> dict[str, Raw]:
    """Splits of tar files. `KEY.cls` holds the class, as a number or a name; so may `label` in `KEY.json`.

    Where classes are numbers, `classnames.txt` beside the shards may name them, a line each.

    Args:
        shards: the tar files of each split, in order.

    Raises:
        DataError: a file is no plain tar, or holds no image.
    """
    found = {split: _indexed(files) for split, files in shards.items()}
    values = {label for samples in found.values() for label in samples.label if label is not None}
    classes = sorted(values, key=numbers_first)
    numbers = {label: number for number, label in enumerate(classes)}
    names = _names(shards["train"][0].parent, classes)
    return {split: _raw(shards[split], samples, numbers, names) for split, samples in found.items()}


def _indexed(files: Sequence[Path]) -> _Samples:
    samples = _Samples()
    for number, file in enumerate(files):
        labels: dict[str, str] = {}
        before = len(samples.name)
        try:
            with tarfile.open(file, "r:") as archive:
                for member in archive:
                    if not member.isfile() or Path(member.name).name.startswith("."):
                        continue
                    ending = Path(member.name).name.partition(".")[2]
                    if is_image_name(member.name):
                        samples.shard.append(number)
                        samples.start.append(member.offset_data)
                        samples.length.append(member.size)
                        samples.name.append(member.name)
                    elif ending in ("cls", "json") and (label := _label(archive, member, ending)) is not None:
                        labels[_key(member.name)] = label
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"{file}: cannot be read as a plain tar ({error}); unpack what is compressed") from None
        samples.label += [labels.get(_key(name)) for name in samples.name[before:]]
    if not samples.name:
        raise DataError(f"{files[0]}: no image in it; accepted: KEY.jpg beside KEY.cls, as WebDataset has it")
    return samples


def _key(name: str) -> str:
    return str(Path(name).with_name(Path(name).name.partition(".")[0]))


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> str | None:
    file = archive.extractfile(member)
    assert file is not None
    text = file.read().decode("utf-8", "replace").strip()
    if ending == "cls":
        return text or None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    label = value.get("label") if isinstance(value, dict) else None
    return None if label is None or isinstance(label, list | dict) else str(label)


def _names(folder: Path, classes: list[str]) -> tuple[str, ...]:
    file = folder / CLASS_NAMES
    if not file.is_file() or not all(name.isdecimal() for name in classes):
        return tuple(classes)
    known = file.read_text(encoding="utf-8").splitlines()
    if classes and int(classes[-1]) >= len(known):
        raise DataError(f"{file}: {len(known)} names for class {classes[-1]}")
    return tuple(known[int(name)] for name in classes)


def _raw(files: list[Path], samples: _Samples, numbers: dict[str, int], names: tuple[str, ...]) -> Raw:
    labels = torch.tensor([-1 if label is None else numbers[label] for label in samples.label], dtype=torch.int64)

    def read(index: int) -> bytes:
        with files[samples.shard[index]].open("rb") as file:
            file.seek(samples.start[index])
            return file.read(samples.length[index])

    known = bool((labels >= 0).any())
    return Raw(
        count=len(samples.name),
        open=lambda index: Image.open(io.BytesIO(read(index))),
        name=lambda index: printable(f"{files[samples.shard[index]]} {samples.name[index]}"),
        key=lambda index: samples.name[index],
        state=lambda rows: state_of(files) + rows.tobytes(),
        labels=labels if known else None,
        classes=names if known else (),
        encoded=Encoded(lambda: np.array(samples.length), read),
    )

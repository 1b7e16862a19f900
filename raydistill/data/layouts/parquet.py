"""Images in Parquet, in the layouts of the Hugging Face Hub."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.data.images import DataError, Encoded, Raw, state_of
from raydistill.data.layouts import unpacked

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def known_labels(values: Sequence[int | None]) -> Tensor | None:
    """(N,) int64, -1 where a value is missing (null or negative), or None when every value is."""
    labels = torch.tensor([-1 if value is None else max(-1, value) for value in values], dtype=torch.int64)
    return labels if bool((labels >= 0).any()) else None


def read_parquet(files: dict[str, list[Path]]) -> dict[str, Raw]:
    """Splits of Parquet shards: `image` or `img` (bytes, or a struct with `bytes`), and whole-number labels.

    Class names come from the Hugging Face metadata, else they are the numbers. The encoded images are held in memory,
    or on disk where they are many, and decoded when needed; `path` in the struct is never followed. Raises DataError.
    """
    large = sum(path.stat().st_size for paths in files.values() for path in paths) > unpacked.IN_MEMORY
    shards = {split: [_table(path, large) for path in paths] for split, paths in files.items()}
    names = {str(files[split][i]): _class_names(t.schema) for split in files for i, t in enumerate(shards[split])}
    _same_classes(names)
    labels = {split: _labels(shards[split]) for split in files}
    count = max((int(found.max()) + 1 for found in labels.values() if found is not None), default=0)
    classes = next((known for known in names.values() if known), tuple(map(str, range(count))))
    if len(classes) < count:
        raise DataError(f"{next(iter(names))}: label {count - 1} for {len(classes)} class names in the schema")
    return {
        split: _raw_parquet(files[split], shards[split], labels[split], classes if count else ()) for split in files
    }


def _same_classes(classes: dict[str, tuple[str, ...]]) -> None:
    labelled = {place: names for place, names in classes.items() if names}
    first = next(iter(labelled), "")
    for place, names in labelled.items():
        if names != labelled[first]:
            differ = sorted(set(names) ^ set(labelled[first])) or ["the order"]
            raise DataError(f"{first} and {place} have different classes: {', '.join(differ[:5])}")


def _table(path: Path, large: bool) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        image, label = _column(schema, _IMAGE_COLUMNS), _column(schema, _LABEL_COLUMNS)
        if image is None:
            raise DataError(f"{path}: no column image or img; it has {', '.join(schema.names)}")
        kind = schema.field(image).type
        nested = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if nested:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"{path}: column {image} is {kind}; accepted: binary, or a struct with bytes")
        if label and not (pa.types.is_integer(schema.field(label).type) or pa.types.is_null(schema.field(label).type)):
            raise DataError(f"{path}: column {label} is {schema.field(label).type}; accepted: whole numbers")
        wanted = [f"{image}.bytes" if nested else image, *([label] if label else [])]
        whole = pq.ParquetFile(path, memory_map=True)
        return unpacked.read_in_place(path, wanted) if large and whole.metadata.num_rows else whole.read(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet ({' '.join(str(error).split())})") from error


def _column(schema: Any, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _labels(shards: list[Any]) -> Tensor | None:
    values: list[int | None] = []
    for table in shards:
        column = _column(table.schema, _LABEL_COLUMNS)
        values += table[column].to_pylist() if column else [None] * len(table)
    return known_labels(values)


def _class_names(schema: Any) -> tuple[str, ...]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[_column(schema, _LABEL_COLUMNS)]["names"]))
    except (KeyError, TypeError, ValueError):  # names are optional, and other writers use the key too
        return ()


def _raw_parquet(files: list[Path], shards: list[Any], labels: Tensor | None, classes: tuple[str, ...]) -> Raw:
    images = [table[_column(table.schema, _IMAGE_COLUMNS)] for table in shards]
    ends = list(accumulate(map(len, images)))
    if not ends[-1]:
        raise DataError(f"{files[0]}: no rows")
    read = partial(_read_row, images, ends)
    return Raw(
        count=ends[-1],
        open=lambda index: Image.open(io.BytesIO(read(index))),
        name=partial(_row_name, files, ends),
        key=functools.cache(lambda index: hashlib.sha256(read(index)).hexdigest()),
        state=lambda rows: state_of(files) + rows.tobytes(),
        labels=labels,
        classes=classes,
        encoded=Encoded(partial(_lengths, images), read),
    )


def _lengths(images: list[Any]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column for column in images]
    return np.concatenate([pc.fill_null(pc.binary_length(column), -1).to_numpy() for column in columns])


def _place(ends: list[int], index: int) -> tuple[int, int]:
    shard = bisect_right(ends, index)
    return shard, index - (ends[shard - 1] if shard else 0)


def _read_row(images: list[Any], ends: list[int], index: int) -> bytes:
    shard, row = _place(ends, index)
    value = images[shard][row].as_py()
    data: bytes | None = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise ValueError("no bytes")
    return data


def _row_name(files: list[Path], ends: list[int], index: int) -> str:
    shard, row = _place(ends, index)
    return f"{files[shard]} row {row}"

"""Embeddings of images into a Parquet file, a row group at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from raydistill.config import ConfigError, DataConfig
from raydistill.data.drawing import limited
from raydistill.data.images import BadImageError, Raw, decode
from raydistill.data.layouts.tree import is_image_name
from raydistill.data.rgb import Levels
from raydistill.data.sources import open_source
from raydistill.data.splits import divide
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.export.card import provenance
from raydistill.export.run import ResolvedRun
from raydistill.storage import Remote, is_remote, local_copy, reason

SPLITS = ("train", "val", "test")
ROW_GROUP = 4096
FLOAT_BYTES = 4
Part = tuple[str, Raw, np.ndarray]


def parts_of(source: str, split: str, data: DataConfig, levels: Levels | None = None) -> list[Part]:
    """List rows of images: those of a split, or all, divided as a sweep with the settings `data` would divide them.

    Args:
        source: what `data.source` takes, or an image file.
        split: train, val, test or all.
        data: settings of the division.
        levels: black and white of images with more than 8 bits, as the run had them; None takes the source's own.

    Raises:
        ConfigError: there are no such images.
        DataError: they cannot be read.
    """
    path = local_copy(Remote(source)) if is_remote(source) else Path(source)
    if path.is_file() and is_image_name(path.name):
        raws = {"train": Raw(1, lambda index: Image.open(path), lambda index: str(path), None, (), resize=data.resize)}
    else:
        raws = open_source(data.model_copy(update={"source": str(path) if is_remote(source) else source}))
    if levels is not None:
        raws = {name: replace(raw, levels=lambda: levels) for name, raw in raws.items()}
    if is_remote(source):
        raws = {name: replace(raw, name=_rebased(raw, path, source)) for name, raw in raws.items()}
    divided = divide(raws, data)
    parts = [_part(name, *divided[name], data) for name in SPLITS if split in ("all", name) and len(divided[name][1])]
    if not parts:
        raise ConfigError(f"--split {split}: {source} has no image for it")
    return parts


def _part(name: str, raw: Raw, rows: np.ndarray, data: DataConfig) -> Part:
    labels = None if raw.labels is None else raw.labels[torch.from_numpy(rows)]
    return name, raw, rows[limited(labels, len(rows), (data.split_seed, 2), data.limit)]


def _rebased(raw: Raw, copy: Path, source: str) -> Callable[[int], str]:
    """Names by the address, not by this machine's copy of what lies there."""
    address = source.partition("?")[0].rstrip("/")
    return lambda index: address + raw.name(index).removeprefix(str(copy))


def embed_images(
    encoder: nn.Module,
    found: ResolvedRun,
    parts: list[Part],
    out: Path,
    *,
    batch_size: int,
    device: torch.device,
    skip: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write `image` (its place), `split`, `label` and `class` where known, and `embedding` to a Parquet file.

    Args:
        encoder: with `dim`; the run's own, `found.encoder`.
        found: the run.
        parts: the images.
        out: the file.
        batch_size: images at a time.
        device: where the encoder runs.
        skip: pass over images that cannot be read.
        progress: called with the number of images that are done.

    Returns:
        The number of rows in the file.

    Raises:
        BadImageError: an image cannot be read.
        ConfigError: the file cannot be written, or the device has too little memory for a batch.
    """
    encoder = encoder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    schema = _schema(encoder.dim, any(raw.labels is not None for _, raw, _ in parts), found)  # type: ignore[arg-type]
    size = found.context["image_size"]
    passing, done = out.with_name(f".{out.name}.{os.getpid()}"), 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(passing, schema) as writer:
            group: list[pa.RecordBatch] = []
            for split, raw, rows, images in _images(parts, batch_size, size, skip):
                group.append(_batch(schema, split, raw, rows, _features(encoder, images, size, device)))
                done += len(rows)
                progress(done)
                if sum(map(len, group)) >= ROW_GROUP:
                    writer.write_table(pa.Table.from_batches(group))
                    group = []
            if group:
                writer.write_table(pa.Table.from_batches(group))
        passing.replace(out)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"--batch-size {batch_size}: {device} has too little memory for it; use a smaller one"
        ) from None
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({reason(error)})") from None
    finally:
        passing.unlink(missing_ok=True)
    return done


def _images(
    parts: list[Part], batch_size: int, size: int, skip: bool
) -> Iterator[tuple[str, Raw, list[int], list[Tensor]]]:
    """Yield batches of images as `_read` gives them, with their split, their source and their rows in it.

    No more than a batch is ever waiting.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for split, raw, rows in parts:
            for start in range(0, len(rows), batch_size):
                wanted = rows[start : start + batch_size].tolist()
                read = zip(wanted, pool.map(partial(_read, raw, size=size, skip=skip), wanted), strict=True)
                kept = [(row, image) for row, image in read if image is not None]
                if kept:
                    yield split, raw, [row for row, _ in kept], [image for _, image in kept]


def _read(raw: Raw, row: int, *, size: int, skip: bool) -> Tensor | None:
    """The image (3, h, w) of uint8, or, where that is larger, its view (3, size, size) of float32."""
    try:
        image = decode(raw, row)
    except BadImageError as error:
        if skip:
            return None
        raise BadImageError(f"{error}; --skip-bad passes over such images") from error
    return image if image.nbytes <= FLOAT_BYTES * 3 * size**2 else _viewed([image], size, torch.device("cpu"))[0]


def _viewed(images: list[Tensor], size: int, device: torch.device) -> Tensor:
    return evaluate_view(images, size=size, normalize=normalization("", size), device=device)


def _features(encoder: nn.Module, images: list[Tensor], size: int, device: torch.device) -> np.ndarray:
    """(N, dim) float32 of what `_read` gives."""
    views = torch.empty(len(images), 3, size, size, device=device, memory_format=torch.channels_last)
    plain = [place for place, image in enumerate(images) if image.dtype == torch.uint8]
    for place in set(range(len(images))).difference(plain):
        views[place] = images[place]
    if plain:
        views[plain] = _viewed([images[place] for place in plain], size, device)
    with torch.inference_mode():
        features: np.ndarray = encoder(views).float().cpu().numpy()
    return features


def _schema(dim: int, labelled: bool, found: ResolvedRun) -> pa.Schema:
    fields = [("image", pa.string()), ("split", pa.string())]
    fields += [("label", pa.int64()), ("class", pa.string())] if labelled else []
    fields += [("embedding", pa.list_(pa.float32(), dim))]
    return pa.schema(fields, {"raydistill": json.dumps(provenance(found))})


def _batch(schema: pa.Schema, split: str, raw: Raw, rows: list[int], features: np.ndarray) -> pa.RecordBatch:
    known = [-1] * len(rows) if raw.labels is None else raw.labels[rows].tolist()
    labels = [None if label < 0 else label for label in known]
    columns: dict[str, Any] = {
        "image": [raw.name(row) for row in rows],
        "split": [split] * len(rows),
        "label": labels,
        "class": [None if label is None else raw.classes[label] for label in labels],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1]),
    }
    return pa.record_batch({name: columns[name] for name in schema.names}, schema)

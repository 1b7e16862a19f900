"""Images, folders and Parquet files to test data with."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from raydistill.config import DataConfig
from raydistill.data.images import Decoder, Images, Raw
from raydistill.data.sources import load_dataset

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def pixels(height=10, width=10, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if array is None else array).save(path)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def folder(root, splits=("train", "test"), classes=("cat", "dog"), per_class=6):
    for split in splits:
        for name in classes:
            for i in range(per_class):
                save(root / split / name / f"{i}.png")
    return root


def parquet(path, images, labels=None, names=None, image="image", label="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {image: [{"bytes": data, "path": None} for data in images]}
    if labels is not None:
        columns[label] = labels
    table = pa.table(columns)
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        meta = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": meta})
    pq.write_table(table, path)


def opened(source, **settings):
    return load_dataset(DataConfig(source=str(source), **settings))


def split_of(*images, skip=False, cache_bytes=0.0):
    """A split of in-memory images; None stands for an unreadable one."""

    def read(index):
        if images[index] is None:
            raise OSError("cannot identify image file")
        return Image.fromarray(images[index])

    raw = Raw(len(images), read, lambda i: f"file {i}", torch.arange(len(images)), ())
    decoder = Decoder(raw, np.arange(len(images)), skip=skip, cache_bytes=cache_bytes)
    return Images(decoder, torch.arange(len(images)), raw.labels, (), 10)

"""Open a data set: the digits, torchvision by name, image folders, Parquet; as train, validation and test."""

from __future__ import annotations

import gzip
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.config import DataConfig, nearest
from raydistill.data.drawing import draw, limited
from raydistill.data.images import DataError, Decoder, Images, Raw, shared_levels, state_of
from raydistill.data.layouts import hub
from raydistill.data.layouts.folders import read_folder
from raydistill.data.layouts.parquet import known_labels, read_parquet
from raydistill.data.layouts.shards import find_shards
from raydistill.data.layouts.webdataset import read_webdataset
from raydistill.data.rgb import Levels, is_wide
from raydistill.data.splits import TEST_FRACTION, divide_labelled, labels_of
from raydistill.data.views.recipes import Kind
from raydistill.redaction import redact
from raydistill.storage import Remote, is_remote, local_copy

_SMALL = 64  # pixels; images up to here are trained at their own size
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {**_TWO, "val": {"split": "val"}}
_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}

TORCHVISION: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": _FLAG,
    "CIFAR100": _FLAG,
    "Caltech101": {"train": {}},
    "Caltech256": {"train": {}},
    "Country211": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    "DTD": _THREE,
    "EuroSAT": {"train": {}},
    "FashionMNIST": _FLAG,
    "FGVCAircraft": _THREE,
    "Flowers102": _THREE,
    "Food101": _TWO,
    "GTSRB": _TWO,
    "KMNIST": _FLAG,
    "MNIST": _FLAG,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "PCAM": _THREE,
    "StanfordCars": _TWO,
    "STL10": _TWO,
    "STL10-unlabeled": {"train": {"split": "unlabeled"}, "test": {"split": "test"}},
    "SUN397": {"train": {}},
    "SVHN": _TWO,
}
"""What may follow `torchvision:`, and the arguments that open each split."""


@dataclass(frozen=True)
class Dataset:
    """A source, opened and split, to be trained on at `image_size` pixels; recipes are fitted to its `kind`.

    `classes` are those of the scores. `labelled` are the images that scores learn from where they are others than
    `train`; `left_out` and `notes` are those of `Division`. `levels` are black and white of the training images if the
    first of them has more than 8 bits.
    """

    name: str
    train: Images
    val: Images
    test: Images
    classes: tuple[str, ...]
    image_size: int
    kind: Kind = "photographs"
    labelled: Images | None = None
    left_out: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    levels: Levels | None = None

    @property
    def bank(self) -> Images:
        """The images that k-NN compares with and that a probe learns from."""
        return self.train if self.labelled is None else self.labelled

    @property
    def splits(self) -> dict[str, Images]:
        """The images by what they are for, `labelled` where there are such."""
        labelled = {} if self.labelled is None else {"labelled": self.labelled}
        return {"train": self.train, **labelled, "val": self.val, "test": self.test}


def load_dataset(config: DataConfig) -> Dataset:
    """Open `config.source` and split it; nothing but the first image is decoded yet.

    The source's test split is used, else its validation split stands in, else a fifth of train is held
    out. Validation is the source's own only beside a test split, else `validation_fraction` of train.
    Where there are labelled images beside it, or only a part of it has labels, see `divide_labelled`.
    Raises DataError (source unknown or missing, useless labels, too few images) and BadImage.
    """
    raws, labelled = open_source(config), _open_labelled(config)
    division = divide_labelled(raws, labelled, config)
    parts = {
        split: (raw, rows[limited(labels_of(raw, rows), len(rows), (config.split_seed, 2), config.limit)])
        for split, (raw, rows) in division.parts.items()
    }
    _check_enough(config, {split: len(rows) for split, (_, rows) in parts.items()})
    decoders = {split: _decoder(raw, rows, config) for split, (raw, rows) in parts.items()}
    size = config.image_size or _default_size(config.source, decoders["train"])
    own = next((raw.classes for raw in raws.values() if raw.classes), ())
    classes = own if labelled is None else labelled["train"].classes
    images = {
        split: Images(
            decoders[split],
            torch.arange(len(rows)),
            labels_of(raw, rows),
            own if split == "train" else classes,
            size,
        )
        for split, (raw, rows) in parts.items()
    }
    kind: Kind = "photographs" if config.kind == "auto" else config.kind
    if config.kind == "auto" and config.source == "digits":
        kind = "characters"
    levels = _levels(raws["train"])
    return Dataset(
        config.source,
        **images,
        classes=classes,
        image_size=size,
        kind=kind,
        left_out=division.left_out,
        levels=levels,
        notes=(*(note for raw in (*raws.values(), *(labelled or {}).values()) for note in raw.notes), *division.notes),
    )


def _levels(raw: Raw) -> Levels | None:
    """Black and white of a source whose first readable image has more than 8 bits."""
    for index in range(raw.count):
        with suppress(Exception), raw.open(index) as image:
            return raw.levels() if raw.levels is not None and is_wide(image) else None
    return None


class OpenedDatasets:
    """Data sets by their settings, each opened and decoded once; settings of batches and order do not count."""

    def __init__(self) -> None:
        self._opened: dict[DataConfig, Dataset] = {}

    def __call__(self, data: DataConfig) -> Dataset:
        """Open the data set, or return the one that is open. Raises: DataError."""
        plain = {name: DataConfig.model_fields[name].get_default() for name in ("batch_size", "stream_seed")}
        same = data.model_copy(update={**plain, "fixed_views": None})
        if same not in self._opened:
            self._opened[same] = load_dataset(data)
        return self._opened[same]


def _check_enough(config: DataConfig, sizes: dict[str, int]) -> None:
    for split, size in sizes.items():
        if size == 0:
            setting = "source" if config.labelled is None or split == "train" else "labelled"
            raise DataError(
                f"data.{setting}={getattr(config, setting)!r}: no image is left for {split} (sizes {sizes}); "
                "a split is drawn from classes with at least two images"
            )


def _decoder(raw: Raw, rows: np.ndarray, config: DataConfig) -> Decoder:
    cache_bytes, disk_bytes = config.cache_gib * 2**30, config.disk_cache_gib * 2**30
    return Decoder(raw, rows, skip=config.on_bad_image == "skip", cache_bytes=cache_bytes, disk_bytes=disk_bytes)


def _default_size(source: str, decoder: Decoder) -> int:
    if source == "digits":
        return 12  # 8 pixels are too few for the strides of a network
    _, height, width = decoder.first().shape
    return height if height == width <= _SMALL else 224


def _open_labelled(config: DataConfig) -> dict[str, Raw] | None:
    """The splits of `data.labelled`, if there is one. Raises DataError, also where it is a part of `data.source`."""
    labelled, source = config.labelled, config.source
    if labelled is None:
        return None
    if labelled == source or (_inside(labelled, source) and _inside(source, labelled)):
        raise DataError(
            f"data.labelled={redact(labelled)!r} is data.source itself; leave it out: labels of data.source are used"
        )
    for inner, outer, called in ((labelled, source, "data.source"), (source, labelled, "data.labelled")):
        if _inside(inner, outer):
            raise DataError(
                f"{redact(inner)!r} lies inside {called}={redact(outer)!r}, which is read as a whole; keep labelled "
                "images and images to learn from in folders side by side"
            )
    return open_source(config.model_copy(update={"source": labelled}), "data.labelled")


def _inside(inner: str, outer: str) -> bool:
    """Return whether a folder lies inside another one, or is it under another name."""
    if is_remote(inner) or is_remote(outer):
        return inner.startswith(outer.rstrip("/") + "/")
    one, other = (Path(place).expanduser().resolve() for place in (inner, outer))
    return one.is_dir() and other.is_dir() and one.is_relative_to(other)


def open_source(config: DataConfig, setting: str = "data.source") -> dict[str, Raw]:
    """The splits that the source itself has, nothing decoded: train, and perhaps val and test. Raises DataError.

    Args:
        config: names the source as `data.source`.
        setting: what named it, for messages.
    """
    raws = _open(config, setting)
    levels = shared_levels(raws["train"])
    return {split: replace(raw, levels=levels, resize=config.resize) for split, raw in raws.items()}


def _open(config: DataConfig, setting: str) -> dict[str, Raw]:
    source = config.source
    if source == "digits":
        return _digits()
    if source.lower().startswith("torchvision:"):
        return _torchvision(source.partition(":")[2], config, setting)
    if source.startswith(hub.PREFIX):
        return read_path(hub.fetch(source))
    if is_remote(source):
        return read_path(local_copy(Remote(source)))
    path = Path(source).expanduser()
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if source and path.parent.is_dir() else []
        near = nearest(source, ["digits", *(f"torchvision:{name}" for name in TORCHVISION), *beside])
        raise DataError(
            f"{setting}={source!r} is neither a known name nor a path that exists"
            f"{near if near.startswith('; did') else ''}; accepted: digits, "
            f"torchvision:NAME ({', '.join(TORCHVISION)}), hf:OWNER/NAME, a folder of images, Parquet or tar files, or "
            "an address of such as s3://bucket/folder"
        )
    for inside, name in _ON_DISK.items():
        if path.name == inside or (path / inside).exists():
            root = path.parent if path.name == inside else path
            return _torchvision(name, config.model_copy(update={"root": str(root)}), setting)
    return read_path(path)


_ON_DISK = {
    "cifar-10-batches-py": "CIFAR10",
    "cifar-100-python": "CIFAR100",
    "stl10_binary": "STL10",
    "train_32x32.mat": "SVHN",
}
"""What torchvision's data sets without image files have in their folder."""
_READERS = {".parquet": read_parquet, ".tar": read_webdataset}


def read_path(path: Path) -> dict[str, Raw]:
    """The splits (train, and val and test where given) of a folder, of Parquet or of tar files. Raises DataError."""
    if path.is_file():
        if path.suffix.lower() not in _READERS:
            raise DataError(f"{path}: a file must end in {' or '.join(_READERS)}; else give a folder")
        return _READERS[path.suffix.lower()]({"train": [path]})
    for ending, read in _READERS.items():
        if found := find_shards(path, ending):
            return read(found)
    return read_folder(path)


def _digits() -> dict[str, Raw]:
    # Importing scikit-learn would take a second in each process of a sweep, so its file is read without it.
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0..16 to 0..255
    labels = torch.from_numpy(table[:, -1]).long()
    rows = dict(zip(("train", "test"), draw(labels, len(labels), (0, 0), TEST_FRACTION), strict=True))
    return {split: _digits_split(split, pixels[chosen], labels[chosen]) for split, chosen in rows.items()}


def _digits_split(split: str, pixels: np.ndarray, labels: Tensor | None) -> Raw:
    return Raw(
        count=len(pixels),
        open=lambda index: Image.fromarray(pixels[index]),
        name=lambda index: f"digits {split} image {index}",
        labels=labels,
        classes=tuple("0123456789"),
    )


def _torchvision(wanted: str, config: DataConfig, setting: str) -> dict[str, Raw]:
    from torchvision import datasets

    name = {known.lower(): known for known in TORCHVISION}.get(wanted.lower())
    if name is None:
        raise DataError(f"{setting}='torchvision:{wanted}' is unknown{nearest(wanted, TORCHVISION)}")
    root = Path(config.root).expanduser()
    constructor = getattr(datasets, name.partition("-")[0])
    try:
        opened = {
            split: constructor(str(root), download=config.download, **arguments)
            for split, arguments in TORCHVISION[name].items()
        }
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        raise DataError(
            f"torchvision:{name} cannot be opened under data.root={config.root!r} ({error}); "
            "set data.download=true, or data.root to the folder that holds it"
        ) from error
    state = state_of(sorted([root, *root.glob("*"), *root.glob("*/*")]))  # what was downloaded does not change
    return {split: _torchvision_split(f"torchvision:{name} {split}", found, state) for split, found in opened.items()}


def _torchvision_split(place: str, found: Any, state: bytes) -> Raw:
    labels = known_labels(_torchvision_labels(found))
    numbers = () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
    names = getattr(found, "classes", getattr(found, "categories", numbers))
    return Raw(
        count=len(found),
        open=lambda index: found[index][0],
        name=lambda index: f"{place} image {index}",
        state=lambda rows: state + place.encode() + rows.tobytes(),
        labels=labels,
        classes=() if labels is None else tuple(map(str, names)),
    )


def _torchvision_labels(found: Any) -> list[int]:
    """The labels, from wherever this data set keeps them, without decoding an image."""
    for attribute in ("targets", "labels", "_labels", "y"):
        if hasattr(found, attribute):
            return [int(value) for value in getattr(found, attribute)]
    if hasattr(found, "_samples"):
        return [int(label) for _, label in found._samples]
    with found.h5py.File(found._base_folder / found._FILES[found._split]["targets"][0]) as file:  # PCAM
        return [int(value) for value in file["y"][:].reshape(-1)]

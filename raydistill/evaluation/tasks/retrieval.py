"""Retrieval of landmarks on revisited Oxford and Paris (SDSSL, table 4).

Settings: `eval_image_retrieval.py` of facebookresearch/dino, at its defaults. Data and metric:
filipradenovic/revisitop (Radenovic et al., CVPR 2018).
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from raydistill.data.views.augment import normalization
from raydistill.errors import one_line
from raydistill.evaluation.benchmarks.search import (
    Shape,
    average_precision,
    benchmark,
    describe,
    part,
    patch_of,
    rankings,
    scene,
)
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError
from raydistill.training.memory import lost_device, out_of_memory

log = logging.getLogger(__name__)
NAMES = ("roxford5k", "rparis6k")
SIDE = 224  # pixels of the longest side
KINDS = ("easy", "hard", "junk")
PROTOCOLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""Kinds of images that are positives, and kinds that are ignored."""
LAYOUT = "roxford5k/gnd_roxford5k.pkl and roxford5k/jpg/, or the same of rparis6k"


@dataclass(frozen=True)
class Landmarks:
    """One of the two data sets: files of the database and of the queries, and each query's images by kind."""

    images: tuple[Path, ...]
    queries: tuple[Path, ...]
    kinds: tuple[dict[str, NDArray[np.int64]], ...]


def score(subject: Subject) -> Findings:
    """Score mAP of the protocols Medium and Hard: `test_retrieval_roxford5k_medium`, `_hard`, and those of rparis6k.

    Images are reduced to 224 px on the longest side, by Pillow's thumbnail (Lanczos); smaller ones stay as they are.
    A ViT gets whole patches: up to a patch less one pixel is cut off at the right and at the bottom, which is what the
    strided convolution of DINO's ViT passes over. The feature is the class token, of a convolutional network the pooled
    map. A network that takes images of one size alone gets the whole image, resized to fit into that size and padded
    with the mean colour.

    Queries are whole images, as in DINO's code, which does not read the ground truth's boxes (`bbx`). The benchmark's
    own scripts (`crop_qim.m`, `example_process_images.py`) crop queries to the boxes, so their figures are not
    comparable.

    Raises: TaskError for a folder in another layout; BadImageError.
    """
    with benchmark(subject, draw) as folder:
        found = {name: read_landmarks(path) for name, path in _ground_truths(folder).items()}
        network, shape = _network(subject)
        scores = {}
        for name, landmarks in found.items():
            features = describe(network, [*landmarks.images, *landmarks.queries], shape, subject)
            database, queries = features.tensor_split([len(landmarks.images)])
            ranked = rankings(queries, database)
            for protocol in PROTOCOLS:
                scores[f"test_retrieval_{name}_{protocol}"] = mean_average_precision(ranked, landmarks.kinds, protocol)
    return Findings({name: value for name, value in scores.items() if value is not None})


def mean_average_precision(
    ranked: NDArray[np.int64], kinds: Sequence[Mapping[str, NDArray[np.int64]]], protocol: str
) -> float | None:
    """Mean of the queries' average precision; queries without positives are left out, and None stands for no query.

    Args:
        ranked: indices (Q, N) for each query, the most similar first.
        kinds: `easy`, `hard` and `junk` indices of each query.
        protocol: `medium` or `hard`.
    """
    positive, ignored = PROTOCOLS[protocol]
    found = []
    for row, own in zip(ranked, kinds, strict=True):
        positives = np.concatenate([own[kind] for kind in positive])
        if len(positives):
            found.append(average_precision(row, positives, np.concatenate([own[kind] for kind in ignored])))
    return float(np.mean(found)) if found else None


class Summary(nn.Module):
    """Summary of an encoder's map: images (N, 3, H, W) of any size -> the class token or pooled feature (N, D)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        summary: Tensor = self.encoder.maps(images)[0]  # type: ignore[operator]
        return summary


def _network(subject: Subject) -> tuple[nn.Module, Shape]:
    """Return what gives an image's feature, and what shapes the image for it."""
    patch = patch_of(subject.encoder)
    if _takes_any_size(subject, patch):
        return Summary(subject.encoder), lambda image: thumbnail(image, patch)
    size = subject.dataset.image_size
    log.info("retrieval: this network takes images of one size alone; thumbnails are padded to %d px", size)
    colour = tuple(round(255 * value) for value in normalization(subject.dataset.name, size)[0])

    def padded(image: Image.Image) -> Image.Image:
        return ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color=colour)

    return subject.encoder, padded


def _takes_any_size(subject: Subject, patch: tuple[int, int]) -> bool:
    """Return whether the network has maps of an image that is not square."""
    if not hasattr(subject.encoder, "maps"):
        return False
    height, width = (max(subject.dataset.image_size // side, 1) * side for side in patch)
    try:
        with torch.inference_mode():
            subject.encoder.maps(torch.zeros(1, 3, height, 2 * width, device=subject.device))  # type: ignore[operator]
    except (ValueError, AssertionError, RuntimeError) as error:
        if lost_device(error) or out_of_memory(error):
            raise
        return False
    return True


def thumbnail(image: Image.Image, patch: tuple[int, int]) -> Image.Image:
    """Reduce an image to 224 px on its longest side, and cut it to whole patches (height, width), at least one."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    height, width = patch
    if image.width < width or image.height < height:
        image = image.resize((max(image.width, width), max(image.height, height)), Image.Resampling.LANCZOS)
    return image.crop((0, 0, image.width // width * width, image.height // height * height))


def _ground_truths(folder: Path) -> dict[str, Path]:
    """Find the files of ground truth in the folder, or in one below it with the data set's name."""
    found: dict[str, Path] = {}
    for name in NAMES:
        for place in (folder / name, folder):
            if (place / f"gnd_{name}.pkl").is_file():
                found[name] = place / f"gnd_{name}.pkl"
    if not found:
        raise TaskError(f"{folder}: neither revisited Oxford nor Paris; expected {LAYOUT}")
    return found


def read_landmarks(file: Path) -> Landmarks:
    """Read a ground truth of the revisited benchmark (`gnd_roxford5k.pkl`), beside which `jpg/` lies.

    Raises: TaskError for a file with anything else in it, or missing images.
    """
    try:
        with file.open("rb") as stream:
            content = PlainUnpickler(stream, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a pickle that is cut off raises nearly anything
        raise TaskError(f"{file}: not a ground truth of revisited Oxford or Paris ({one_line(error)})") from error
    names = [_names(content, key, file) for key in ("imlist", "qimlist")]
    entries = content.get("gnd")
    if not isinstance(entries, list) or len(entries) != len(names[1]):
        raise TaskError(f"{file}: gnd must be a list with an entry for each of the {len(names[1])} queries")
    images, queries = ([file.parent / "jpg" / f"{name}.jpg" for name in each] for each in names)
    missing = next((path for path in [*images, *queries] if not path.is_file()), None)
    if missing is not None:
        raise TaskError(f"{missing}: no such image, which {file.name} lists; jpg/ has all images of the data set")
    kinds = tuple(_kinds(entry, len(images), f"{file}: gnd[{index}]") for index, entry in enumerate(entries))
    if not any(len(entry[kind]) for entry in kinds for kind in ("easy", "hard")):
        raise TaskError(f"{file}: no query has a positive image (easy or hard)")
    return Landmarks(tuple(images), tuple(queries), kinds)


def _names(content: object, key: str, file: Path) -> list[str]:
    """Return the images that a key of the ground truth lists; paths out of `jpg/` are no names."""
    names = content.get(key) if isinstance(content, dict) else None
    if not isinstance(names, list) or not names:
        raise TaskError(f"{file}: no list {key}; expected a dict with imlist, qimlist and gnd")
    for name in names:
        if not isinstance(name, str) or PurePath(name).name != name:
            raise TaskError(f"{file}: {key} has {name!r}; expected names such as 'all_souls_000013'")
    return names


def _kinds(entry: object, count: int, where: str) -> dict[str, NDArray[np.int64]]:
    """Return one query's easy, hard and junk images, checked."""
    found = {}
    for kind in KINDS:
        try:
            values = np.asarray(entry[kind]).ravel()  # type: ignore[index]
        except (TypeError, KeyError, ValueError):
            raise TaskError(f"{where}: no {kind}; expected easy, hard and junk, with indices of images") from None
        if len(values) and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= count):
            raise TaskError(f"{where}: {kind} must have indices of images, from 0 to {count - 1}")
        found[kind] = values.astype(np.int64)
    every = np.concatenate([*found.values()])
    if len(np.unique(every)) < len(every):
        raise TaskError(f"{where}: an image is listed twice; each is easy, hard or junk, or none of these")
    return found


def _latin1(text: str, encoding: str) -> bytes:
    """Encode as pickles of protocol 2 encode bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _numpy_names() -> dict[tuple[str, str], Callable[..., Any]]:
    """Callables by which numpy pickles arrays and numbers, under the names that its versions have."""
    array, number = np.zeros(1), np.float64(0)
    found: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = array.__reduce_ex__(2)[0]  # type: ignore[assignment]
        found[f"{core}.numeric", "_frombuffer"] = array.__reduce_ex__(5)[0]  # type: ignore[assignment]
        found[f"{core}.multiarray", "scalar"] = number.__reduce__()[0]  # type: ignore[assignment]
    return found


class PlainUnpickler(pickle.Unpickler):
    """Unpickler of plain Python values and numpy arrays, which calls nothing else: a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _numpy_names()[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is neither a plain value nor a numpy array") from None


def draw(folder: Path) -> Path:
    """Draw tiny data sets in the layout of revisited Oxford and Paris: three landmarks each, of coloured shapes."""
    home = folder / "revisitop"
    for base, name in enumerate(NAMES):
        pictures = home / name / "jpg"
        pictures.mkdir(parents=True, exist_ok=True)
        images: list[str] = []
        queries, entries = [], []
        for landmark in range(3):
            whole = scene(1000 + 10 * base + landmark, 80, 60 + 10 * landmark)
            dark = whole.point(lambda value: value // 2)
            views = {"easy": (part(whole, 0.9), part(whole, 0.8)), "hard": (part(dark, 0.5),), "junk": (dark,)}
            queries.append(f"query_{landmark}")
            whole.save(pictures / f"{queries[-1]}.jpg")
            entry: dict[str, Any] = {"bbx": [0.0, 0.0, float(whole.width), float(whole.height)]}
            for kind, made in views.items():
                entry[kind] = np.arange(len(images), len(images) + len(made))
                for image in made:
                    images.append(f"landmark_{landmark}_{len(images):06}")
                    image.save(pictures / f"{images[-1]}.jpg")
            entries.append(entry)
        with (home / name / f"gnd_{name}.pkl").open("wb") as stream:
            pickle.dump({"imlist": images, "qimlist": queries, "gnd": entries}, stream)
    return home

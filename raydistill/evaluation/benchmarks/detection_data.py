"""Detection benchmarks in folders: PASCAL VOC with its XML files, and COCO with its JSON files.

Boxes are (x1, y1, x2, y2), the edges of an object in pixels, with 0 at the edge of the image. VOC counts pixels from 1
and its boxes include their last pixel; so 1 is taken from their first corner, as Detectron2 does.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from raydistill.data.images import DataError
from raydistill.evaluation.tasks.base import TaskError

VOC_TRAIN = (("VOC2007", "trainval"), ("VOC2012", "trainval"))
COCO_TRAIN, COCO_TEST = "train2017", "val2017"
EXPECTED = (
    "expected VOC2007/{JPEGImages,Annotations,ImageSets/Main/{trainval,test}.txt} in it or in its VOCdevkit/, "
    f"or annotations/instances_{{{COCO_TRAIN},{COCO_TEST}}}.json with {COCO_TRAIN}/ and {COCO_TEST}/"
)
TOY_CLASSES = ("ellipse", "rectangle")
TOY_IMAGES = {"trainval": 16, "test": 8}
TOY_SIDE = 64


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and the objects in it.

    Args:
        path: of the file.
        number: the image's own, as results name it.
        size: width and height in pixels.
        boxes: (N, 4).
        labels: (N,) classes, from 1.
        difficult: (N,), True where the objects do not count in scores.
        outlines: N outlines as COCO writes them (polygons or run lengths); empty where there are none.
    """

    path: Path
    number: int
    size: tuple[int, int]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    outlines: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """Images to train and to test a detector on.

    Args:
        kind: whose layout and metric it has.
        classes: names; class i + 1 of the images is the i-th.
        train, test: the images. Those of `train` have an object or more.
        categories: COCO's own numbers of the classes.
        truth: COCO's file of the test images.
    """

    kind: Literal["voc", "coco"]
    classes: tuple[str, ...]
    train: tuple[AnnotatedImage, ...]
    test: tuple[AnnotatedImage, ...]
    categories: tuple[int, ...] = ()
    truth: Path | None = None


def open_benchmark(folder: Path) -> Benchmark:
    """Read VOC or COCO, whichever lies in the folder; no image is decoded yet. Raises: TaskError, DataError."""
    if not folder.is_dir():
        raise TaskError(f"detection: {folder} is no folder; {EXPECTED}")
    for root in (folder, folder / "VOCdevkit"):
        if (root / "VOC2007").is_dir():
            return _open_voc(root)
    if (folder / "annotations" / f"instances_{COCO_TRAIN}.json").is_file():
        return _open_coco(folder)
    raise TaskError(f"detection: {folder} holds neither VOC nor COCO; {EXPECTED}")


def read_pixels(image: AnnotatedImage) -> Tensor:
    """(3, H, W) uint8, as the annotations see it: not turned by EXIF. Raises: DataError."""
    try:
        with Image.open(image.path) as opened:
            pixels = np.array(opened.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{image.path}: cannot be read as an image ({type(error).__name__})") from None
    height, width = pixels.shape[:2]
    if (width, height) != image.size:
        raise DataError(f"{image.path}: {width}x{height} px, but its annotation says {'x'.join(map(str, image.size))}")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_masks(image: AnnotatedImage) -> Tensor:
    """(N, H, W) uint8, 1 inside each object. Raises: TaskError without faster-coco-eval, DataError."""
    coco = coco_library()
    width, height = image.size
    masks = torch.zeros(len(image.labels), height, width, dtype=torch.uint8)
    for place, outline in enumerate(image.outlines):
        try:
            parts = [outline] if isinstance(outline, dict) and isinstance(outline["counts"], str | bytes) else None
            runs = coco.mask.merge(parts or _listed(coco.mask.frPyObjects(outline, height, width)))
            masks[place] = torch.from_numpy(coco.mask.decode(runs))
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
            raise DataError(f"{image.path}: outline {place + 1} cannot be read ({error})") from None
    return masks


def _listed(runs: Any) -> list[Any]:
    return runs if isinstance(runs, list) else [runs]


def coco_library() -> Any:
    """The package faster_coco_eval. Raises: TaskError where it is not installed."""
    try:
        import faster_coco_eval
    except ImportError:
        raise TaskError("detection: COCO needs faster-coco-eval; pip install raydistill[detection]") from None
    return faster_coco_eval


def _open_voc(root: Path) -> Benchmark:
    """Trainval of 2007, and of 2012 where it is there, to train on; test of 2007."""
    train = [each for year, split in VOC_TRAIN if (root / year).is_dir() for each in _voc_split(root / year, split)]
    test = list(_voc_split(root / "VOC2007", "test"))
    classes = tuple(sorted({name for _, names in train for name in names}))
    if not classes:
        raise _no_objects(root)
    numbers = {name: place for place, name in enumerate(classes, 1)}
    for image, names in test:
        if unknown := sorted(set(names) - set(classes)):
            raise DataError(f"{image.path}: {unknown[0]!r} is no class of the training images: {', '.join(classes)}")

    def labelled(images: Sequence[tuple[AnnotatedImage, list[str]]]) -> Iterator[AnnotatedImage]:
        for image, names in images:
            image.labels[:] = [numbers[name] for name in names]
            yield image

    return Benchmark("voc", classes, tuple(_filled(labelled(train), root)), tuple(labelled(test)))


def _voc_split(folder: Path, split: str) -> Iterator[tuple[AnnotatedImage, list[str]]]:
    """Images of a split, with the names of their objects' classes."""
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        raise DataError(f"{listing} is missing; {EXPECTED}")
    stems = [words[0] for line in listing.read_text(encoding="utf-8").splitlines() if (words := line.split())]
    if not stems:
        raise DataError(f"{listing} names no image; a line for each is expected, such as 000005")
    for number, stem in enumerate(stems):
        yield _voc_image(folder, stem, number)


def _voc_image(folder: Path, stem: str, number: int) -> tuple[AnnotatedImage, list[str]]:
    path = folder / "Annotations" / f"{stem}.xml"
    try:
        tree = ElementTree.parse(path).getroot()
        size = (_integer(tree, "size/width"), _integer(tree, "size/height"))
        objects = tree.findall("object")
        names = [(each.findtext("name") or "").strip() for each in objects]
        corners = [[_integer(each, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
        difficult = [(each.findtext("difficult") or "0").strip() == "1" for each in objects]
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {folder.name} lists {stem}") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: no annotation of VOC ({error})") from None
    boxes = np.array(corners, float).reshape(-1, 4) - (1, 1, 0, 0)
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise DataError(f"{path}: a bndbox whose xmax or ymax is below its xmin or ymin")
    labels = np.zeros(len(names), np.int64)
    image = folder / "JPEGImages" / f"{stem}.jpg"
    return AnnotatedImage(image, number, size, boxes, labels, np.array(difficult, bool)), names


def _integer(tree: ElementTree.Element, place: str) -> int:
    """The whole number at a place of an XML tree; a few files of VOC2012 have fractions there. Raises: ValueError."""
    text = tree.findtext(place)
    if text is None:
        raise ValueError(f"no {place}")
    return round(float(text))


def _open_coco(folder: Path) -> Benchmark:
    """Train2017 without its crowds to train on; val2017 to test."""
    coco_library()
    truth = folder / "annotations" / f"instances_{COCO_TEST}.json"
    train, test = _json(folder / "annotations" / f"instances_{COCO_TRAIN}.json"), _json(truth)
    names = _categories(train, folder / "annotations" / f"instances_{COCO_TRAIN}.json")
    numbers = {category: place for place, category in enumerate(names, 1)}
    return Benchmark(
        "coco",
        tuple(names.values()),
        tuple(_filled(_coco_images(train, folder / COCO_TRAIN, numbers), folder)),
        tuple(_coco_images(test, folder / COCO_TEST, numbers)),
        tuple(names),
        truth,
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {EXPECTED}") from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(found, dict) or not all(isinstance(found.get(part), list) for part in parts):
        raise DataError(f"{path}: no annotations of COCO; lists {', '.join(parts)} are expected")
    return found


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    try:
        return dict(sorted((int(each["id"]), str(each["name"])) for each in content["categories"]))
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: a category without id or name") from None


def _coco_images(content: Mapping[str, Any], folder: Path, numbers: Mapping[int, int]) -> Iterator[AnnotatedImage]:
    """Images with the objects that are no crowds and have an area; their order is the file's."""
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; {EXPECTED}")
    objects = defaultdict(list)
    try:
        for each in content["annotations"]:
            if not each.get("iscrowd") and min(each["bbox"][2:]) > 0:
                objects[each["image_id"]].append((each["bbox"], numbers[each["category_id"]], each["segmentation"]))
        for image in content["images"]:
            own = objects[image["id"]]
            boxes = np.array([box for box, _, _ in own], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            yield AnnotatedImage(
                folder / image["file_name"],
                int(image["id"]),
                (int(image["width"]), int(image["height"])),
                boxes,
                np.array([label for _, label, _ in own], np.int64),
                np.zeros(len(own), bool),
                tuple(outline for _, _, outline in own),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{folder}: its annotations are not COCO's ({what})") from None


def _filled(images: Iterator[AnnotatedImage], folder: Path) -> list[AnnotatedImage]:
    """Images with an object or more; Detectron2 leaves the others out of training. Raises: DataError."""
    found = [image for image in images if len(image.labels)]
    if not found:
        raise _no_objects(folder)
    return found


def _no_objects(folder: Path) -> DataError:
    return DataError(f"{folder}: no training image has an object")


def draw_voc(folder: Path) -> Path:
    """Draw a tiny VOC2007: rectangles and ellipses on grey, the last object of every fourth image a difficult one.

    Returns: the folder VOCdevkit that it lies in.
    """
    root = folder / "VOCdevkit" / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    rng, number = np.random.default_rng(0), 0
    for split, count in TOY_IMAGES.items():
        stems = [f"{number + place:06d}" for place in range(1, count + 1)]
        for place, stem in enumerate(stems):
            _draw_image(root, stem, rng, difficult=place % 4 == 3)
        number += count
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")
    return root.parent


def _draw_image(root: Path, stem: str, rng: np.random.Generator, *, difficult: bool) -> None:
    """An object in the left half of the image, and another one in its right half."""
    image = Image.new("RGB", (TOY_SIDE, TOY_SIDE), tuple(int(each) for each in rng.integers(100, 150, 3)))
    pencil, half = ImageDraw.Draw(image), TOY_SIDE // 2
    tree = ElementTree.Element("annotation")
    ElementTree.SubElement(tree, "filename").text = f"{stem}.jpg"
    size = ElementTree.SubElement(tree, "size")
    for name, value in (("width", TOY_SIDE), ("height", TOY_SIDE), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for place in range(2):
        kind = TOY_CLASSES[int(rng.integers(2))]
        width, height = rng.integers(half // 2, half - 4), rng.integers(half // 2, TOY_SIDE - 8)
        left, top = place * half + rng.integers(half - width), rng.integers(TOY_SIDE - height)
        box = [int(each) for each in (left, top, left + width - 1, top + height - 1)]
        colour = tuple(int(each) for each in rng.choice([0, 60, 255], 3))
        (pencil.ellipse if kind == "ellipse" else pencil.rectangle)(box, fill=colour)
        one = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(one, "name").text = kind
        ElementTree.SubElement(one, "difficult").text = str(int(difficult and place == 1))
        edges = ElementTree.SubElement(one, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(edges, name).text = str(value + 1)
    ElementTree.ElementTree(tree).write(root / "Annotations" / f"{stem}.xml")
    image.save(root / "JPEGImages" / f"{stem}.jpg", quality=95)

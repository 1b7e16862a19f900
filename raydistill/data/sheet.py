"""A picture of images beside their augmented views, to look at before anything is trained."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from raydistill.config import Config
from raydistill.data.images import BadImageError
from raydistill.data.sources import Dataset
from raydistill.data.views.augment import View, augment, evaluate_view

ROWS = 8
DRAWS = 3  # of each recipe
TILE = 112  # pixels
MARGIN, HEAD = 4, 18
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def student_views(config: Config) -> list[View]:
    """The views that the student of a configuration sees, each recipe once."""
    recipes = dict.fromkeys(config.method.student_recipes())
    return [View(recipe, 0).changed(config.augment) for recipe in recipes]


def contact_sheet(dataset: Dataset, views: Sequence[View]) -> Image.Image:
    """Draw training images as they are scored, and beside them some draws of each view.

    Args:
        dataset: the images; those shown are the same each time, of as many classes as there is room for.
        views: what a method sees, with the settings of the augmentation.

    Returns: the picture; a small white one if none of the images can be read.
    """
    chosen = _chosen(dataset)
    found = [(index, image) for index in chosen if not isinstance(image := dataset.train.look(index), BadImageError)]
    if not found:
        return Image.new("RGB", (TILE, HEAD), "white")
    images, size = [image for _, image in found], dataset.image_size
    numbers = torch.tensor([index for index, _ in found])
    columns = [("scored as", evaluate_view(images, size=size, normalize=PLAIN))]
    for recipe, changes in dict.fromkeys((view.recipe, view.changes) for view in views):
        for draw in range(DRAWS):
            shown = augment(
                images,
                numbers,
                View(recipe, draw, changes),
                size=size,
                seed=0,
                epoch=0,
                normalize=PLAIN,
                kind=dataset.kind,
            )
            columns.append((recipe if draw == 0 else "", shown))
    return _drawn(columns, [_caption(dataset, index) for index, _ in found])


def _chosen(dataset: Dataset) -> list[int]:
    labels = dataset.train.labels
    order = random.Random(0).sample(range(len(dataset.train)), min(len(dataset.train), 20 * ROWS))
    if labels is None:
        return order[:ROWS]
    first = {int(labels[index]): index for index in reversed(order)}
    rest = [index for index in order if index not in first.values()]
    return [*(first[label] for label in sorted(first)), *rest][:ROWS]


def _caption(dataset: Dataset, index: int) -> str:
    labels = dataset.train.labels
    return "" if labels is None or labels[index] < 0 else dataset.train.classes[int(labels[index])]


def _drawn(columns: list[tuple[str, Tensor]], captions: list[str]) -> Image.Image:
    rows = len(captions)
    width, height = len(columns) * (TILE + MARGIN) + MARGIN, rows * (TILE + HEAD) + HEAD + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (head, pictures) in enumerate(columns):
        left = MARGIN + column * (TILE + MARGIN)
        pen.text((left, 3), head, fill="black")
        for row, picture in enumerate(pictures):
            top = HEAD + row * (TILE + HEAD)
            array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            tile = Image.fromarray(np.ascontiguousarray(array))
            smooth = Image.Resampling.NEAREST if tile.width < TILE else Image.Resampling.BILINEAR
            sheet.paste(tile.resize((TILE, TILE), smooth), (left, top))
    for row, caption in enumerate(captions):
        pen.text((MARGIN, HEAD + row * (TILE + HEAD) + TILE + 2), caption[:18], fill="black")
    return sheet

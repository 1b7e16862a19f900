"""Average precision of detections: VOC's by the rules of Detectron2's evaluator, COCO's by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.evaluation.benchmarks.detection_data import AnnotatedImage, Benchmark, coco_library

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


@dataclass(frozen=True)
class Detected:
    """Detected objects of an image.

    Args:
        boxes: (N, 4), edges in pixels.
        labels: (N,) classes, from 1.
        scores: (N,), higher where the detector is surer.
        masks: N run lengths of COCO; empty where there are none.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    masks: tuple[Any, ...] = ()


def score_voc(found: Sequence[Detected], truth: Sequence[AnnotatedImage], *, eleven_points: bool = True) -> list[float]:
    """Mean average precision over the classes, at each IoU of `THRESHOLDS`.

    Each detection belongs to the object of its class that it overlaps most. It is right if their IoU is above the
    threshold and no surer detection has the object. Difficult objects count neither for nor against. Classes without an
    object that counts are left out. Source: VOC's development kit, and Detectron2's pascal_voc_evaluation.py, which
    also rounds scores to three decimals and corners to one; here nothing is rounded.

    Args:
        found: of each image.
        truth: the images, in the same order.
        eleven_points: as `average_precision` takes it; Detectron2 has True for VOC2007 and False for VOC2012.
    """
    counted = np.concatenate([image.labels[~image.difficult] for image in truth])
    rows = []
    for label in np.unique(counted):
        scores, overlaps, objects, difficult = _matches(found, truth, int(label))
        order = np.argsort(-scores, kind="stable")
        overlaps, objects, difficult = overlaps[order], objects[order], difficult[order]
        row = []
        for threshold in THRESHOLDS:
            near = overlaps > threshold
            right = np.zeros(len(near), bool)
            claims = np.flatnonzero(near & ~difficult)
            right[claims[np.unique(objects[claims], return_index=True)[1]]] = True
            counts = ~(near & difficult)
            row.append(average_precision(right[counts], int((counted == label).sum()), eleven_points=eleven_points))
        rows.append(row)
    return [float(each) for each in np.mean(rows, axis=0)] if rows else [0.0] * len(THRESHOLDS)


def average_precision(right: NDArray[np.bool_], positives: int, *, eleven_points: bool) -> float:
    """Average precision of detections (N,) in the order of their scores, each right or wrong.

    Args:
        right: which detections are.
        positives: number of objects to be found.
        eleven_points: whether the precision is averaged at the recalls 0, 0.1, ... 1 (VOC2007), where it is the best
            one at that recall or a higher one; else the area below that curve is taken.
    """
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    if eleven_points:
        places = [int(np.searchsorted(hits * 10, tenths * positives)) for tenths in range(11)]
        return sum(float(precision[place]) for place in places if place < len(hits)) / 11
    return float(precision[right].sum() / positives)


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def _matches(
    found: Sequence[Detected], truth: Sequence[AnnotatedImage], label: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Scores of a class's detections, IoU with the nearest object, its number, and whether it is difficult.

    Args:
        found, truth: as for `score_voc`.
        label: the class.
    """
    rows: list[tuple[NDArray[Any], ...]] = [(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros(0, bool))]
    known = 0
    for detected, image in zip(found, truth, strict=True):
        mine, own = detected.labels == label, image.labels == label
        scores = detected.scores[mine]
        if not own.any():
            rows.append((scores, np.zeros(len(scores)), np.zeros(len(scores), int), np.zeros(len(scores), bool)))
            continue
        overlaps = overlap(detected.boxes[mine], image.boxes[own])
        best = overlaps.argmax(1)
        rows.append((scores, overlaps.max(1), best + known, image.difficult[own][best]))
        known += int(own.sum())
    scores, overlaps, objects, difficult = (np.concatenate(column) for column in zip(*rows, strict=True))
    return scores, overlaps, objects, difficult


def score_coco(found: Sequence[Detected], benchmark: Benchmark, kind: str) -> tuple[float, float, float]:
    """COCO's AP, AP50 and AP75.

    Args:
        found: of each of the benchmark's test images.
        benchmark: with the file of their objects.
        kind: `bbox` or `segm`, what is compared.

    Raises:
        TaskError: faster-coco-eval is not installed.
    """
    library = coco_library()
    truth = library.COCO(benchmark.truth)
    results = [
        {
            "image_id": image.number,
            "category_id": benchmark.categories[label - 1],
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": float(score),
            **({"segmentation": detected.masks[place]} if detected.masks else {}),
        }
        for image, detected in zip(benchmark.test, found, strict=True)
        for place, (box, label, score) in enumerate(zip(detected.boxes, detected.labels, detected.scores, strict=True))
    ]
    scorer = library.COCOeval_faster(truth, truth.loadRes(results), iouType=kind, print_function=lambda *_: None)
    scorer.run()
    ap, ap50, ap75 = (max(0.0, float(each)) for each in scorer.stats[:3])
    return ap, ap50, ap75

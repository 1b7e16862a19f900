"""VOC's average precision against cases worked out by hand and COCO's library; COCO's against a drawn data set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.builders.detection_folders import draw_coco
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.evaluation.benchmarks.detection_data import AnnotatedImage, Benchmark, open_benchmark
from raydistill.evaluation.benchmarks.detection_metrics import (
    THRESHOLDS,
    Detected,
    average_precision,
    overlap,
    score_coco,
    score_voc,
)

A, B = (0, 0, 10, 10), (20, 0, 30, 10)


def truth(*objects, number=0):
    """An image with objects: box, label, difficult."""
    boxes = np.array([box for box, _, _ in objects], float).reshape(-1, 4)
    labels, difficult = np.array([each[1] for each in objects], int), np.array([each[2] for each in objects], bool)
    return AnnotatedImage(Path("none.jpg"), number, (100, 100), boxes, labels, difficult)


def found(*objects):
    """Detections of an image: box, label, score."""
    boxes = np.array([box for box, _, _ in objects], float).reshape(-1, 4)
    return Detected(boxes, np.array([each[1] for each in objects], int), np.array([each[2] for each in objects], float))


def test_a_duplicate_is_wrong():
    """Right, wrong, right of 2: recalls 1/2, 1/2, 1 and precisions 1, 1/2, 2/3.

    At recalls 0 to 0.5 the best precision is 1, at 0.6 to 1 it is 2/3: (6 + 5 * 2/3) / 11. Area: 1/2 + 1/2 * 2/3.
    """
    image, detected = truth((A, 1, False), (B, 1, False)), found((A, 1, 0.9), (A, 1, 0.8), (B, 1, 0.7))
    assert score_voc([detected], [image]) == pytest.approx([28 / 33] * 10)
    assert score_voc([detected], [image], eleven_points=False) == pytest.approx([5 / 6] * 10)


def test_an_overlap_counts_above_the_threshold_only():
    """The detection covers 60 of 100 pixels, so it is right at 0.5 and 0.55, and wrong from 0.6 on."""
    scores = score_voc([found(((0, 0, 10, 6), 1, 0.9))], [truth((A, 1, False))])
    assert dict(zip(THRESHOLDS, scores, strict=True)) == {t: (1.0 if t < 0.6 else 0.0) for t in THRESHOLDS}


def test_difficult_objects_count_neither_for_nor_against():
    """Both detections of the difficult object are left out, which leaves one detection of one object."""
    image = truth((A, 1, True), (B, 1, False))
    assert score_voc([found((A, 1, 0.9), (A, 1, 0.8), (B, 1, 0.7))], [image]) == pytest.approx([1.0] * 10)
    # Found nothing but the difficult one: no object that counts.
    assert score_voc([found((A, 1, 0.9))], [image]) == [0.0] * 10


def test_a_detection_belongs_to_the_object_it_overlaps_most():
    """The second detection overlaps the taken object most (10/12 against 8/12), and so it is wrong even at 0.5.

    The objects reach from 0 to 10 and from 4 to 12, the detections from 0 to 10 and from 0 to 12. One right
    of two: precision 1 up to recall 1/2, so 6 of 11 points.
    """
    image = truth(((0, 0, 10, 1), 1, False), ((4, 0, 12, 1), 1, False))
    detected = found(((0, 0, 10, 1), 1, 0.9), ((0, 0, 12, 1), 1, 0.8))
    assert score_voc([detected], [image])[0] == pytest.approx(6 / 11)


def test_classes_are_averaged_and_those_without_objects_left_out():
    """Class 1 is found, class 2 is not, class 3 has one difficult object, class 4 none: (1 + 0) / 2."""
    images = [truth((A, 1, False), (B, 2, False)), truth((A, 3, True))]
    detected = [found((A, 1, 0.9)), found((A, 3, 0.9), (B, 4, 0.9))]
    assert score_voc(detected, images) == pytest.approx([0.5] * 10)


def test_scores_are_compared_over_all_images():
    """The surest detection, in the second image, is wrong: precisions 0, 1/2, 2/3 at recalls 0, 1/2, 1.

    The best precision is 2/3 at every recall.
    """
    images = [truth((A, 1, False), (B, 1, False)), truth()]
    detected = [found((A, 1, 0.5), (B, 1, 0.4)), found((A, 1, 0.9))]
    assert score_voc(detected, images) == pytest.approx([2 / 3] * 10)


def test_nothing_found_and_nothing_there():
    assert score_voc([found()], [truth((A, 1, False))]) == [0.0] * 10
    assert score_voc([found((A, 1, 0.9))], [truth()]) == [0.0] * 10


def test_overlaps_of_boxes():
    """5 of 10 columns are shared: 50 / 150. B is apart."""
    assert overlap(np.array([A], float), np.array([(5, 0, 15, 10), B, A], float)) == pytest.approx(
        np.array([[1 / 3, 0, 1]])
    )


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20))
def test_average_precision_is_what_its_definition_says(right, missed):
    positives = max(1, sum(right) + missed)
    curve = [(sum(right[:n]), sum(right[:n]) / n) for n in range(1, len(right) + 1)]
    best = [max([p for hits, p in curve if 10 * hits >= tenths * positives], default=0) for tenths in range(11)]
    area = sum(max([p for hits, p in curve if hits >= k], default=0) for k in range(1, positives + 1)) / positives
    given_ = np.array(right, bool)
    assert average_precision(given_, positives, eleven_points=True) == pytest.approx(sum(best) / 11)
    assert average_precision(given_, positives, eleven_points=False) == pytest.approx(area)


def drawn(seed, images=6):
    """Objects that lie apart, one for each cell of a grid, and detections of most of them, shifted and mistaken."""
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for number in range(images):
        corners = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) * 25.0
        corners = corners[rng.random(16) < 0.6] + rng.uniform(0, 5, 2)
        boxes = np.concatenate([corners, corners + rng.uniform(8, 19, corners.shape)], 1)
        labels = rng.integers(1, 4, len(boxes))
        truths.append(truth(*zip(boxes.tolist(), labels.tolist(), [False] * len(boxes), strict=True), number=number))
        picks = rng.integers(0, len(boxes), 2 * len(boxes)) if len(boxes) else np.zeros(0, int)
        moved = boxes[picks] + rng.normal(0, 1.2, (len(picks), 4))
        guesses = np.where(rng.random(len(picks)) < 0.8, labels[picks], rng.integers(1, 4, len(picks)))
        detections.append(found(*zip(moved.tolist(), guesses.tolist(), rng.random(len(picks)).tolist(), strict=True)))
    return truths, detections


def written(path, truths):
    """The objects as COCO's file, and the benchmark that names it."""
    annotations = [
        {"image_id": image.number, "category_id": int(label), "bbox": [*box[:2], *(box[2:] - box[:2])], "iscrowd": 0}
        | {"area": float(np.prod(box[2:] - box[:2]))}
        for image in truths
        for box, label in zip(image.boxes, image.labels, strict=True)
    ]
    content = {
        "images": [{"id": image.number, "width": 100, "height": 100} for image in truths],
        "annotations": [{"id": place, **each} for place, each in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": str(number)} for number in (1, 2, 3)],
    }
    path.write_text(json.dumps(content))
    return Benchmark("coco", ("1", "2", "3"), (), tuple(truths), (1, 2, 3), path)


@pytest.mark.parametrize("seed", range(4))
def test_the_area_agrees_with_cocos_library(tmp_path, seed):
    """Where objects lie apart, both match alike. COCO's mean over 101 recalls is within 0.01 of the area.

    For a falling curve f between 0 and 1 with sum S over the recalls k / 100, the area lies between (S - f(0)) / 100
    and (S - f(1)) / 100, and S / 101 is at most 0.01 from both.
    """
    truths, detections = drawn(seed)
    area = score_voc(detections, truths, eleven_points=False)
    ap, ap50, ap75 = score_coco(detections, written(tmp_path / "truth.json", truths), "bbox")
    assert 0.05 < ap < 0.95
    assert (np.mean(area), area[0], area[5]) == pytest.approx((ap, ap50, ap75), abs=0.01)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_scores_are_shares_that_only_the_order_of_detections_decides(seed):
    truths, detections = drawn(seed, images=2)
    if not any(len(image.labels) for image in truths):
        return
    scores = score_voc(detections, truths)
    assert all(0 <= each <= 1 for each in scores)
    assert scores == sorted(scores, reverse=True)
    squared = [replace(each, scores=each.scores**2) for each in detections]
    assert score_voc(squared, truths) == scores
    perfect = [Detected(image.boxes, image.labels, np.ones(len(image.labels))) for image in truths]
    assert score_voc(perfect, truths) == pytest.approx([1.0] * 10)


def perfect(image):
    from faster_coco_eval import mask

    masks = np.zeros((2, 48, 48), np.uint8)
    masks[0, 8:40, 8:24] = masks[1, 10:30, 30:40] = 1
    return Detected(
        image.boxes, image.labels, np.ones(2), tuple(mask.encode(np.asfortranarray(each)) for each in masks)
    )


def test_coco_scores_of_boxes_and_masks(tmp_path):
    """Found: everything; then in one of two images: precision 1 at recalls 0 to 0.50, 51 of 101; then nothing.

    The crowd is of a class that is found: it counts neither for nor against.
    """
    benchmark = open_benchmark(draw_coco(tmp_path / "coco"))
    right = [perfect(image) for image in benchmark.test]
    assert score_coco(right, benchmark, "bbox") == pytest.approx((1, 1, 1))
    assert score_coco(right, benchmark, "segm") == pytest.approx((1, 1, 1))
    half = [right[0], found()]
    assert score_coco(half, benchmark, "bbox") == pytest.approx([51 / 101] * 3)
    assert score_coco(half, benchmark, "segm") == pytest.approx([51 / 101] * 3)
    assert score_coco([found(), found()], benchmark, "bbox") == (0, 0, 0)
    # Masks of half the height have an IoU of 0.5 and less, which 0.75 does not reach; boxes stay right.
    from faster_coco_eval import mask

    thin = np.zeros((48, 48), np.uint8)
    thin[8:18, 8:24] = 1
    worse = [replace(each, masks=(mask.encode(np.asfortranarray(thin)), each.masks[1])) for each in right]
    assert score_coco(worse, benchmark, "bbox") == pytest.approx((1, 1, 1))
    assert score_coco(worse, benchmark, "segm") == pytest.approx((0.5, 0.5, 0.5))

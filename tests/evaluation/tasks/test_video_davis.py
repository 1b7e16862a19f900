"""J and F of DAVIS, by hand and by the official definition written out, and its folder."""

import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from raydistill.evaluation.benchmarks.davis import (
    boundary,
    boundary_measure,
    draw,
    read_davis,
    read_frame,
    read_labels,
    region_similarity,
    statistics,
)
from raydistill.evaluation.tasks.base import TaskError

sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
pairs = sizes.flatmap(lambda size: st.tuples(arrays(bool, size), arrays(bool, size)))


def box(shape, rows, columns):
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def blob(shape, seed):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), min(shape) / 12) > 0


def official(truth, found):
    """F by loops over pixels and by dilation with a disk, as the official code defines it."""

    def edges(mask):
        height, width = mask.shape
        out = np.zeros_like(mask)
        for y in range(height):
            for x in range(width):
                others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                out[y, x] = any(mask[y, x] != mask[b] for b in others if b[0] < height and b[1] < width)
        return out

    radius = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    real, claimed = edges(truth), edges(found)
    if not real.any() or not claimed.any():
        return float(real.any() == claimed.any())
    precision = (claimed & binary_dilation(real, disk)).sum() / claimed.sum()
    recall = (real & binary_dilation(claimed, disk)).sum() / real.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_region_similarity_by_hand():
    """3 x 3 pixels, moved by a column: 6 are shared, and 12 are in one of both."""
    truth, found = box((6, 6), (1, 4), (1, 4)), box((6, 6), (1, 4), (2, 5))
    assert region_similarity(truth, found) == 0.5
    nothing = np.zeros((6, 6), bool)
    assert region_similarity(nothing, nothing) == 1
    assert region_similarity(truth, nothing) == 0


def test_a_boundary_by_hand():
    """Pixels whose right, lower or lower right neighbour is another: half a pixel towards the origin."""
    assert boundary(box((5, 5), (1, 3), (1, 3))).astype(int).tolist() == [
        [1, 1, 1, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert boundary(box((3, 3), (0, 3), (2, 3))).astype(int).tolist() == [[0, 1, 0]] * 3
    assert boundary(box((3, 3), (2, 3), (0, 3))).astype(int).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert not boundary(np.ones((3, 3), bool)).any()


@pytest.mark.parametrize(("moved", "expected"), [(0, 1), (2, 1), (3, 0)])
def test_boundaries_match_up_to_the_tolerance(moved, expected):
    """100 x 100 pixels have a diagonal of 141.4; 0.8% of it, rounded up, are 2."""
    shape = (100, 100)
    assert boundary_measure(box(shape, (0, 100), (0, 50)), box(shape, (0, 100), (0, 50 + moved))) == expected


def test_boundary_measure_by_hand():
    """An edge of 100 pixels, of which the found mask has the first 40, then steps aside by 10 columns.

    Found boundary: 40 right pixels, a step of 10, of which 2 are near enough, and 60 far ones: precision 42 / 110.
    Of the true pixels, 40 are found, and the next 2 are near enough: recall 42 / 100. F = 2 * 42 / (110 + 100) = 0.4.
    """
    truth = box((100, 100), (0, 100), (0, 50))
    found = truth | box((100, 100), (40, 100), (0, 60))
    assert boundary_measure(truth, found) == pytest.approx(0.4)


@pytest.mark.parametrize("shape", [(20, 30), (90, 120), (150, 210)])  # tolerances of 1, 2 and 3 pixels
@pytest.mark.parametrize("seed", range(3))
def test_boundary_measure_is_that_of_dilations(shape, seed):
    truth, other = blob(shape, seed), blob(shape, seed + 10)
    near = np.roll(truth, seed + 1, axis=1) ^ (other & box(shape, (0, shape[0] // 2), (0, shape[1])))
    expected = official(truth, near)
    assert 0.05 < expected < 0.95
    assert boundary_measure(truth, near) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_measures_of_any_masks(pair):
    truth, found = pair
    for measure in (region_similarity, boundary_measure):
        value = measure(truth, found)
        assert 0 <= value <= 1
        assert measure(found, truth) == pytest.approx(value)
        assert measure(truth, truth) == 1
    assert boundary_measure(truth, found) == pytest.approx(official(truth, found))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Quarters of 8 frames are frames 1 to 3, 3 to 5, 5 to 6 and 6 to 8.
        ([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], (0.65, 5 / 8, 0.9 - 0.4)),
        # Of 3 frames: 1 to 2, 2, 2 to 3 and 3.
        ([0.9, 0.7, 0.2], (0.6, 2 / 3, 0.8 - 0.2)),
        ([0.3], (0.3, 0, 0)),
        ([0.2, 0.8], (0.5, 0.5, -0.6)),
    ],
)
def test_statistics_by_hand(values, expected):
    assert statistics(values) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 23, 78, 102, 300])
def test_the_decay_has_the_official_quarters(count):
    values = np.random.default_rng(count).random(count)
    ends = np.round(np.linspace(1, count, 5) + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    assert statistics(values).decay == pytest.approx(first.mean() - last.mean())


def test_statistics_of_no_frame_are_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        statistics([])


@pytest.fixture
def davis(tmp_path):
    return draw(tmp_path)


def test_a_drawn_davis_has_the_real_layout(davis):
    clips = read_davis(davis)
    assert [clip.name for clip in clips] == (davis / "ImageSets/2017/val.txt").read_text().split() == ["disc", "pair"]
    for clip, objects in zip(clips, ({0, 1}, {0, 1, 2}), strict=True):
        assert clip.frames[0] == davis / "JPEGImages/480p" / clip.name / "00000.jpg"
        assert clip.annotations[0] == davis / "Annotations/480p" / clip.name / "00000.png"
        assert len(clip.frames) == len(clip.annotations) + 1 == 10
        before = None
        for frame, annotation in zip(clip.frames, clip.annotations, strict=False):
            with Image.open(annotation) as image:
                assert image.mode == "P"
            labels, pixels = read_labels(annotation), read_frame(frame)
            assert set(np.unique(labels)) == objects
            assert pixels.shape == (*labels.shape, 3)
            red = pixels[labels == 1].mean(0)
            assert red[0] > 2 * red[1:].max()  # the colour is where the mask is
            assert before is None or (labels != before).any()
            before = labels


def test_void_is_background(davis):
    path = davis / "Annotations/480p/disc/00001.png"
    labels = read_labels(path)
    marked = labels.copy()
    marked[:5] = 255
    Image.fromarray(marked).save(path)
    assert read_labels(path)[:5].max() == 0
    assert (read_labels(path)[5:] == labels[5:]).all()


Fault = namedtuple("Fault", "path change said")


def save(mode, size, colour=1):
    return lambda path: Image.new(mode, size, colour).save(path)


FAULTS = {
    "no list": Fault("ImageSets/2017/val.txt", lambda p: p.unlink(), "val.txt is missing; a folder of DAVIS 2017"),
    "empty list": Fault("ImageSets/2017/val.txt", lambda p: p.write_text("\n"), "val.txt is empty; it names a seq"),
    "unknown sequence": Fault(
        "ImageSets/2017/val.txt",
        lambda p: p.write_text("disc\nswan\n"),
        "480p/swan has no frames .*val.txt names swan",
    ),
    "no first annotation": Fault(
        "Annotations/480p/pair/00000.png",
        lambda p: p.unlink(),
        "pair/00000.png is missing, .* first frame, whose masks",
    ),
    "no other annotation": Fault(
        "Annotations/480p/pair/00004.png", lambda p: p.unlink(), "00004.png is missing, the annotation of 00004.jpg"
    ),
    "mask of another size": Fault(
        "Annotations/480p/pair/00003.png", save("P", (48, 32)), "00003.png has 48x32 px; 96x64 are expected"
    ),
    "frame of another size": Fault(
        "JPEGImages/480p/pair/00002.jpg", save("RGB", (64, 96)), "00002.jpg has 64x96 px; 96x64 are expected"
    ),
    "colours": Fault(
        "Annotations/480p/pair/00001.png", save("RGB", (96, 64)), "00001.png is an image of mode RGB; .* palette"
    ),
    "no object": Fault("Annotations/480p/disc/00000.png", save("P", (96, 64), 0), "disc/00000.png shows no object"),
    "only void": Fault("Annotations/480p/disc/00000.png", save("L", (96, 64), 255), "disc/00000.png shows no object"),
    "no image": Fault(
        "JPEGImages/480p/disc/00001.jpg", lambda p: p.write_bytes(b"\0"), "00001.jpg is no readable image"
    ),
    "two frames": Fault(
        "JPEGImages/480p/disc",
        lambda p: [path.unlink() for path in sorted(p.iterdir())[2:]],
        "disc has 2 frames; .* give 3 or more",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_wrong_folder_is_named(davis, fault):
    fault.change(davis / fault.path)
    with pytest.raises(TaskError, match=fault.said) as caught:
        read_davis(davis)
    assert "\n" not in str(caught.value)


def test_a_cut_off_annotation_is_named(davis):
    path = davis / "Annotations/480p/pair/00002.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TaskError, match=r"00002.png is no readable image .*; unpack it again"):
        read_labels(path)


def test_the_last_annotation_is_not_needed(davis):
    (davis / "Annotations/480p/pair/00009.png").unlink()
    assert len(read_davis(davis)) == 2

"""Revisited Oxford and Paris: protocols by hand, the folder's layout, and ground truth that is read without danger."""

import codecs
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.builders.retrieved import Colours, Square, paint, subject_of
from PIL import Image

from raydistill.data.images import BadImageError
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.retrieval import (
    PlainUnpickler,
    draw,
    mean_average_precision,
    read_landmarks,
    score,
    thumbnail,
)
from raydistill.models.backbones import Backbone

COLOURS = {"red": (250, 10, 10), "orange": (250, 120, 10), "yellow": (250, 250, 10), "green": (10, 250, 10)}
COLOURS |= {"blue": (10, 10, 250)}
METRICS = {f"test_retrieval_{name}_{kind}" for name in ("roxford5k", "rparis6k") for kind in ("medium", "hard")}


def kinds(easy=(), hard=(), junk=()):
    return {"easy": np.array(easy, int), "hard": np.array(hard, int), "junk": np.array(junk, int)}


def ground_truth(**changes):
    return {"imlist": list(COLOURS), "qimlist": ["rose"], "gnd": [kinds([0], [3], [1])], **changes}


def write(home, content, name="roxford5k"):
    for image, colour in COLOURS.items():
        paint(home / "jpg" / f"{image}.jpg", colour)
    paint(home / "jpg" / "rose.jpg", (255, 0, 0))
    file = home / f"gnd_{name}.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return file


def load(content):
    return PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def test_what_is_positive_and_what_is_ignored():
    """Ranked 0 1 2 3 4, with 1 easy, 3 hard and 0 junk.

    Medium: 1 2 3 4 are left, and 1 and 3 follow none and two: (1 + 1 + 1/2 + 2/3) / 4 = 19/24.
    Hard: 2 3 4 are left, and 3 follows one: (0 + 1/2) / 2 = 1/4.
    """
    ranked, own = np.array([[0, 1, 2, 3, 4]]), [kinds([1], [3], [0])]
    assert mean_average_precision(ranked, own, "medium") == pytest.approx(19 / 24)
    assert mean_average_precision(ranked, own, "hard") == pytest.approx(1 / 4)


def test_queries_without_positives_are_left_out():
    ranked, own = np.array([[0, 1, 2], [2, 1, 0]]), [kinds([0], [1]), kinds([0])]
    assert mean_average_precision(ranked, own, "medium") == pytest.approx((1 + (0 + 1 / 3) / 2) / 2)
    assert mean_average_precision(ranked, own, "hard") == 1
    assert mean_average_precision(ranked, [kinds([0]), kinds([0])], "hard") is None


@pytest.mark.parametrize("place", [".", "roxford5k"])
def test_a_folder_is_scored_by_hand(tmp_path, place):
    """Mean colours rank red, orange, yellow, blue, green for a red query; red is easy, green hard, orange junk.

    Medium: red and green follow none and three: (1 + 1 + 1/3 + 2/4) / 4 = 17/24. Hard, without red and orange: green
    follows yellow and blue: (0 + 1/3) / 2 = 1/6.
    """
    write(tmp_path / place, ground_truth())
    found = score(subject_of(Colours(), tmp_path)).scores
    expected = {"test_retrieval_roxford5k_medium": 17 / 24, "test_retrieval_roxford5k_hard": 1 / 6}
    assert found == pytest.approx(expected)


def test_without_hard_images_there_is_no_such_score(tmp_path):
    write(tmp_path, ground_truth(gnd=[kinds([0])]))
    assert score(subject_of(Colours(), tmp_path)).scores == {"test_retrieval_roxford5k_medium": 1}


@pytest.mark.parametrize(
    ("size", "patch", "found"),
    [
        ((448, 300), (1, 1), (224, 150)),
        ((448, 300), (16, 16), (224, 144)),
        ((300, 448), (16, 32), (128, 224)),
        ((448, 20), (16, 16), (224, 16)),
        ((60, 50), (16, 16), (48, 48)),
    ],
)
def test_thumbnails_have_224_px_at_most_and_whole_patches(size, patch, found):
    assert thumbnail(Image.new("RGB", size), patch).size == found


def test_patches_are_cut_from_the_top_left():
    image = Image.effect_noise((40, 35), 90).convert("RGB")
    assert np.array_equal(np.array(thumbnail(image.copy(), (16, 16))), np.array(image)[:32, :32])


def test_a_network_without_maps_sees_padded_squares(tmp_path):
    """Queries and database are padded alike: the order of the colours is the same."""
    write(tmp_path, ground_truth())
    encoder = Square()
    assert score(subject_of(encoder, tmp_path)).scores["test_retrieval_roxford5k_medium"] == pytest.approx(17 / 24)
    assert {shape[1:] for shape in encoder.seen} == {(3, 32, 32)}


@pytest.mark.parametrize("name", ["vit_w64_p16_d1", "resnet10_w4", "wrn10_2"])
def test_toy_images_are_drawn_and_scored(name, tmp_path):
    scores = score(subject_of(Backbone(name), "toy", folder=tmp_path)).scores
    assert set(scores) == METRICS
    assert all(0 < value <= 1 for value in scores.values())
    assert (tmp_path / "revisitop" / "roxford5k" / "gnd_roxford5k.pkl").is_file()


def test_toy_images_are_told_apart_by_their_colours_and_leave_nothing_behind():
    scores = score(subject_of(Colours(), "toy")).scores
    assert scores["test_retrieval_roxford5k_medium"] > 0.5


def test_a_drawn_folder_has_the_layout(tmp_path):
    home = draw(tmp_path)
    landmarks = read_landmarks(home / "rparis6k" / "gnd_rparis6k.pkl")
    assert (len(landmarks.images), len(landmarks.queries)) == (12, 3)
    assert [entry["hard"].tolist() for entry in landmarks.kinds] == [[2], [6], [10]]
    assert set(score(subject_of(Colours(), home)).scores) == METRICS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
def test_ground_truth_is_read_as_numpy_wrote_it(protocol, core):
    """The module of numpy's arrays changed its name with version 2; protocols 4 and 5 count the name's bytes."""
    content = pickle.dumps(ground_truth(bbx=np.float64(3.5)), protocol=protocol)
    assert b"numpy._core" in content
    for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = name.replace(b"numpy._core", core)
        content = content.replace(bytes([len(name)]) + name, bytes([len(old)]) + old).replace(name, old)
    if protocol >= 4:  # the length of the frame; without frames, nothing counts the bytes
        content = content[:2] + content[11:] if content[2:3] == b"\x95" else content
    found = load(content)
    assert found["bbx"] == 3.5
    assert found["gnd"][0]["hard"].tolist() == [3]


def test_names_of_python_2_are_text():
    assert load(b"\x80\x02}U\x06imlist]U\x03redas.")["imlist"] == ["red"]


class Touch:
    """Something that makes a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


class Call:
    """Something that calls what a pickle names."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        Call(eval, "1"),
        Call(getattr, "x", "upper"),
        Call(np.load, "x.npy"),
        Call(codecs.encode, "x", "rot13"),
        Call(np.ndarray.tofile, np.zeros(1), "x"),
        Call(len, "x"),
    ],
)
def test_code_is_refused(call):
    with pytest.raises(pickle.UnpicklingError):
        load(pickle.dumps(call))


def test_a_pickle_with_code_does_not_run(tmp_path):
    file = write(tmp_path, ground_truth(gnd=Touch(tmp_path / "ran")))
    pickle.loads(file.read_bytes())
    assert (tmp_path / "ran").exists()  # else the test would show nothing
    (tmp_path / "ran").unlink()
    with pytest.raises(TaskError, match=r"gnd_roxford5k\.pkl: not a ground truth .*neither a plain value nor a numpy"):
        read_landmarks(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a ground truth of revisited Oxford or Paris"),
        (pickle.dumps(ground_truth())[:50], "not a ground truth of revisited Oxford or Paris"),
        ([1, 2], "no list imlist; expected a dict with imlist, qimlist and gnd"),
        (ground_truth(qimlist=[]), "no list qimlist"),
        (ground_truth(imlist=["../secret"]), r"imlist has '\.\./secret'; expected names such as"),
        (ground_truth(gnd=[]), "an entry for each of the 1 queries"),
        (ground_truth(gnd=[{"ok": [1]}]), r"gnd\[0\]: no easy; expected easy, hard and junk"),
        (ground_truth(gnd=[kinds([5])]), r"gnd\[0\]: easy must have indices of images, from 0 to 4"),
        (ground_truth(gnd=[{**kinds([0]), "junk": ["red"]}]), r"gnd\[0\]: junk must have indices"),
        (ground_truth(gnd=[kinds([0], [0])]), "listed twice"),
        (ground_truth(gnd=[kinds(junk=[0])]), "no query has a positive image"),
        (ground_truth(imlist=["red", "pink"]), r"pink\.jpg: no such image, which gnd_roxford5k\.pkl lists"),
    ],
)
def test_ground_truth_of_another_kind_is_refused(content, said, tmp_path):
    with pytest.raises(TaskError, match=said):
        read_landmarks(write(tmp_path, content))


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"neither revisited Oxford nor Paris; expected roxford5k/gnd_roxford5k\.pkl"):
        score(subject_of(Colours(), tmp_path))
    with pytest.raises(TaskError, match="nowhere: no such folder"):
        score(subject_of(Colours(), tmp_path / "nowhere"))


def test_an_unreadable_image_is_named(tmp_path):
    write(tmp_path, ground_truth())
    (tmp_path / "jpg" / "yellow.jpg").write_text("no image")
    with pytest.raises(BadImageError, match=r"yellow\.jpg: unreadable image"):
        score(subject_of(Colours(), tmp_path))

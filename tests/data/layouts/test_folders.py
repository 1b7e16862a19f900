"""Folders as people have them: what is read, what is passed over and said, what is refused."""

import os
import shutil

import pytest
from helpers.builders.datafiles import folder, opened, save
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.data.images import BadImageError, DataError, decode
from raydistill.data.layouts.folders import read_folder, split_of

CLASSES = ("cat", "dog")


def counts(path):
    return {split: raw.count for split, raw in read_folder(path).items()}


def notes(path):
    return " | ".join(note for raw in read_folder(path).values() for note in raw.notes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", ("train", True)),
        ("Training", ("train", True)),
        ("TRAIN", ("train", True)),
        ("train2017", ("train", True)),
        ("Train_Set", ("train", True)),
        ("training-images", ("train", True)),
        ("trainImages", ("train", True)),
        ("trainval", ("train", True)),
        ("val_256", ("val", True)),
        ("valid", ("val", True)),
        ("dev", ("val", True)),
        ("Testing", ("test", True)),
        ("test1", ("test", True)),
        ("seg_train", ("train", False)),
        ("train station", ("train", False)),
        ("trainer", None),
        ("testament", None),
        ("evaluation", None),
        ("cat", None),
        ("007", None),
    ],
)
def test_names_of_splits(name, expected):
    assert split_of(name) == expected


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Training", "Testing"), {"train": 12, "test": 12}),
        (("train2017", "val2017", "test2017"), {"train": 12, "val": 12, "test": 12}),
        (("Train", "Val", "Test"), {"train": 12, "val": 12, "test": 12}),
        (("Train images", "VALIDATION", "test_set"), {"train": 12, "val": 12, "test": 12}),
    ],
)
def test_splits_in_any_case_and_variant(tmp_path, names, splits):
    folder(tmp_path, names)
    assert counts(tmp_path) == splits
    assert all(raw.classes == CLASSES for raw in read_folder(tmp_path).values())


@pytest.mark.fault(17)
def test_a_class_that_is_called_train_is_refused_with_both_readings(tmp_path):
    folder(tmp_path, ("",), ("bus", "car", "ship", "train"))
    with pytest.raises(DataError, match="folder train is either the train split or a class beside bus, car, ship"):
        read_folder(tmp_path)


def test_names_that_are_nearly_splits_are_refused_with_what_to_call_them(tmp_path):
    folder(tmp_path, ("seg_train", "seg_test", "seg_pred"))
    with pytest.raises(DataError, match=r"seg_test, seg_train look like splits.*seg_test to test, seg_train to train"):
        read_folder(tmp_path)


def test_classes_that_hold_a_splits_word_among_others_stay_classes(tmp_path):
    folder(tmp_path, ("",), ("train station", "test tube", "cat", "dog", "owl"))
    assert read_folder(tmp_path)["train"].classes == ("cat", "dog", "owl", "test tube", "train station")


@pytest.mark.fault(17)
def test_splits_below_another_folder_are_never_one_class(tmp_path):
    folder(tmp_path / "archive", ("train", "test"))
    with pytest.raises(DataError, match=r"folder archive holds test, train; give .*archive instead"):
        read_folder(tmp_path)


@pytest.mark.fault(17)
def test_splits_inside_classes_are_refused(tmp_path):
    for name in CLASSES:
        folder(tmp_path / name, ("train", "test"), ("",))
    with pytest.raises(DataError, match="cat holds test, train, which would all become one class"):
        read_folder(tmp_path)


def test_images_and_labels_beside_each_other_name_the_folder_of_the_splits(tmp_path):
    folder(tmp_path / "images", ("train", "val"))
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(DataError, match=r"folder images holds train, val; give .*images instead"):
        read_folder(tmp_path)


def test_folders_beside_splits_are_passed_over_and_said(tmp_path):
    folder(tmp_path, ("train", "test"))
    folder(tmp_path, ("extra",), ("",), 5)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    save(tmp_path / "overview.png")
    assert counts(tmp_path) == {"train": 12, "test": 12}
    said = notes(tmp_path)
    assert "passed over extra, no split (images: 5)" in said
    assert "passed over images beside the splits (1)" in said
    assert "passed over .json files (1)" in said
    assert "no image in annotations" in said


@pytest.mark.fault(17)
def test_what_notebooks_and_file_servers_leave_behind_is_passed_over(tmp_path):
    folder(tmp_path, ("",))
    for name in CLASSES:
        shutil.copytree(tmp_path / name, tmp_path / name / ".ipynb_checkpoints")
        shutil.copytree(tmp_path / name, tmp_path / name / "deep" / "@eaDir")
        (tmp_path / name / ".DS_Store").write_bytes(b"Bud1")
        (tmp_path / name / "._0.png").write_bytes(b"Mac OS X")
        (tmp_path / name / "Thumbs.db").write_bytes(b"thumbs")
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    save(tmp_path / "__MACOSX" / "cat" / "0.png")
    assert counts(tmp_path) == {"train": 12}
    passed = ".db files (2), hidden files (4), hidden folders (2), system folders (3)"
    assert notes(tmp_path) == f"{tmp_path}: passed over {passed}"


def test_a_data_set_below_a_hidden_folder_is_read(tmp_path):
    assert counts(folder(tmp_path / ".cache" / "photos")) == {"train": 12, "test": 12}


def test_links_are_followed_but_for_loops(tmp_path):
    folder(tmp_path / "elsewhere", ("",), ("owl",))
    photos = folder(tmp_path / "photos", ("",))
    (photos / "owl").symlink_to(tmp_path / "elsewhere" / "owl")
    (photos / "cat" / "again").symlink_to(photos)
    (photos / "cat" / "linked.png").symlink_to("../dog/0.png")
    raw = read_folder(photos)["train"]
    assert raw.classes == ("cat", "dog", "owl")
    assert raw.labels.bincount().tolist() == [7, 6, 6]
    assert raw.notes == (f"{photos}: passed over links to a folder above (1)",)


def test_a_broken_link_is_a_broken_image(tmp_path):
    folder(tmp_path, ("",))
    (tmp_path / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    raw = read_folder(tmp_path)["train"]
    assert raw.count == 13
    with pytest.raises(BadImageError, match=r"lost\.png"):
        [decode(raw, index) for index in range(raw.count)]


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPG", "jp2", "avif", "webp", "tga", "ppm", "apng"])
def test_formats_that_people_have(tmp_path, ending):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        kind = {"jfif": "jpeg", "jpe": "jpeg", "JPG": "jpeg", "jp2": "jpeg2000", "apng": "png"}.get(ending, ending)
        Image.new("RGB", (16, 16), (200, 20, 20)).save(tmp_path / name / f"0.{ending}", format=kind.upper())
    raw = read_folder(tmp_path)["train"]
    assert raw.count == 2
    assert abs(decode(raw, 0)[:, 8, 8].tolist()[0] - 200) < 8


def test_an_animated_file_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in CLASSES:
        (tmp_path / name).mkdir()
        frames[0].save(tmp_path / name / "0.gif", save_all=True, append_images=frames[1:])
    assert decode(read_folder(tmp_path)["train"], 0)[:, 0, 0].tolist() == [255, 0, 0]


def test_one_folder_for_all_images_is_no_label(tmp_path):
    folder(tmp_path, ("",), ("images",))
    raw = read_folder(tmp_path)["train"]
    assert (raw.labels, raw.classes) == (None, ())
    assert "all images lie in one folder, images, which is no label" in raw.notes[0]


def test_classes_a_folder_deeper_are_named(tmp_path):
    folder(tmp_path, ("PetImages",))
    with pytest.raises(DataError, match=r"the classes seem to be cat, dog: give .*PetImages instead"):
        read_folder(tmp_path)


def test_a_test_split_without_labels_beside_a_labelled_one(tmp_path):
    folder(tmp_path, ("train",))
    folder(tmp_path, ("test",), ("images",))
    read = read_folder(tmp_path)
    assert (read["test"].labels, read["train"].classes) == (None, CLASSES)
    assert "test: all images lie in one folder, images" in notes(tmp_path)


def test_classes_that_a_split_lacks_are_said(tmp_path):
    folder(tmp_path, ("train",), ("cat", "dog", "owl"))
    folder(tmp_path, ("test",), ("cow", "owl"))
    data = opened(tmp_path)
    assert data.classes == ("cat", "cow", "dog", "owl")
    assert data.test.labels.tolist() == [1] * 6 + [3] * 6
    said = " ".join(data.notes)
    assert "test: no image of cat, dog, which other splits have" in said
    assert "train: no image of cow, which other splits have" in said


def test_classes_that_differ_in_capitals_are_refused(tmp_path):
    folder(tmp_path, ("train",), ("cat", "dog"))
    folder(tmp_path, ("test",), ("Cat", "dog"))
    with pytest.raises(DataError, match="classes Cat and cat differ in capital letters only"):
        read_folder(tmp_path)


def test_one_name_written_in_two_ways_is_one_class(tmp_path):
    folder(tmp_path, ("train",), ("caf\u00e9", "owl"))
    folder(tmp_path, ("test",), ("cafe\u0301", "owl"))
    read = read_folder(tmp_path)
    assert read["test"].classes == read["train"].classes
    assert read["test"].labels.tolist() == read["train"].labels.tolist()


def test_names_that_are_no_utf_8_are_shown_escaped(tmp_path):
    folder(tmp_path, ("",), (os.fsdecode(b"caf\xe9"), "owl"))
    raw = read_folder(tmp_path)["train"]
    assert raw.classes[0] == r"caf\xe9"
    assert raw.name(0).endswith(r"caf\xe9/0.png")
    assert decode(raw, 0).shape == (3, 10, 10)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    folder(tmp_path, ("",))
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        read_folder(tmp_path)


def test_a_folder_without_images_says_what_it_has(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no image and no Parquet, but \.zip files \(1\);"):
        read_folder(tmp_path)


# --- any folder

FOLDERS = ("deep", "more", ".git", "@eaDir", "__MACOSX", "lost+found")
NAMES = st.sampled_from(
    ["a.png", "b.JPG", "c.jfif", ".hidden.png", "notes.txt", "d.tar.gz", "README", "e.webp", "gone.png", "gone.txt"]
)
TREES = st.recursive(
    st.dictionaries(NAMES, st.none(), max_size=4),
    lambda inner: st.builds(
        dict.__or__, st.dictionaries(NAMES, st.none(), max_size=3), st.dictionaries(st.sampled_from(FOLDERS), inner)
    ),
    max_leaves=12,
)


def write(path, tree):
    path.mkdir(parents=True, exist_ok=True)
    for name, inner in tree.items():
        if name in FOLDERS:
            write(path / name, inner)
        elif name.startswith("gone"):
            (path / name).symlink_to(path / "nowhere")
        else:
            (path / name).write_bytes(b"")


def seen(tree):
    """The images that a person sees, counted without the code under test."""
    images = ("a.png", "b.JPG", "c.jfif", "e.webp", "gone.png")
    return sum(seen(tree[name]) for name in ("deep", "more") if name in tree) + sum(name in images for name in tree)


@pytest.mark.fault(17)
@settings(deadline=None)
@given(
    classes=st.dictionaries(st.sampled_from(["bird", "cat", "dog", "eel"]), TREES, min_size=1, max_size=4),
    splits=st.sampled_from([("",), ("train",), ("Training", "test"), ("train2017", "VAL", "Test_set")]),
    linked=st.booleans(),
)
def test_what_is_read_is_what_a_person_counts(tmp_path_factory, classes, splits, linked):
    root = tmp_path_factory.mktemp("photos")
    for split in splits:
        for name, tree in classes.items():
            write(root / split / name, tree)
            if linked:
                (root / split / name / "back").symlink_to(root)
    per_split = sum(map(seen, classes.values()))
    try:
        read = read_folder(root)
    except DataError as error:
        assert per_split == 0 or "give" in str(error)  # none at all, or one folder that holds the classes
        return
    finally:
        shutil.rmtree(root)
    assert [raw.count for raw in read.values()] == [per_split] * len(splits)
    expected = {name: seen(tree) for name, tree in classes.items() if seen(tree)}
    if len(expected) > 1:
        raw = read["train"]
        found = raw.labels.bincount(minlength=len(raw.classes)).tolist()
        assert dict(zip(raw.classes, found, strict=True)) == expected

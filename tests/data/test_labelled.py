"""Many images to learn from and few labelled ones to score by: who trains, who validates, who tests; and copies."""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.builders.datafiles import opened, parquet, pixels, png, save
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.artifacts.identity import images_identity
from raydistill.artifacts.labels import true_labels
from raydistill.config import DataConfig
from raydistill.data import copies
from raydistill.data.copies import find_copies
from raydistill.data.images import DataError, Encoded, Raw
from raydistill.data.overview import overview
from raydistill.data.sources import open_source
from raydistill.data.splits import divide


@pytest.fixture(scope="module")
def photos(cifar10, tmp_path_factory):
    """Real images as files: 60 without labels in `photos`, 20 of each of two classes in `labelled`."""
    root = tmp_path_factory.mktemp("cifar")
    rows = pq.ParquetFile(cifar10 / "test.parquet").read_row_groups([0]).slice(0, 400).to_pylist()
    for name, label in (("airplane", 0), ("automobile", 1)):
        for index, row in enumerate([row for row in rows if row["label"] == label][:20]):
            write(root / "labelled" / name / f"{index:02d}.png", row["image"]["bytes"])
    for index, row in enumerate([row for row in rows if row["label"] > 1][:60]):
        write(root / "photos" / f"{index:02d}.png", row["image"]["bytes"])
    return root


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def beside(root, **options):
    return opened(root / "photos", labelled=str(root / "labelled"), **options)


def files(images):
    return [images._decoder.name(int(row)) for row in images._rows]


def test_all_images_train_and_the_labelled_ones_score(photos):
    data = beside(photos)
    assert {split: len(images) for split, images in data.splits.items()} == {
        "train": 60,
        "labelled": 26,
        "val": 6,
        "test": 8,
    }
    assert (data.train.labels, data.classes, data.image_size) == (None, ("airplane", "automobile"), 32)
    assert data.bank is data.labelled
    for split, of_each in (("labelled", 13), ("val", 3), ("test", 4)):
        assert torch.bincount(data.splits[split].labels).tolist() == [of_each] * 2
    names = [name for images in data.splits.values() for name in files(images)]
    assert len(names) == len(set(names)) == 100
    assert data.notes == ()


def test_the_division_follows_the_split_seed_alone(photos):
    first, again, other = (beside(photos, split_seed=seed) for seed in (0, 0, 1))
    assert files(first.test) == files(again.test)
    assert files(first.val) == files(again.val)
    assert files(first.test) != files(other.test)
    assert files(first.train) == files(other.train)


def test_without_a_labelled_source_scores_learn_from_the_training_images():
    data = opened("digits")
    assert data.labelled is None
    assert data.bank is data.train


def test_own_splits_of_both_sources_are_used(photos, tmp_path):
    shutil.copytree(photos / "photos", tmp_path / "photos" / "train")
    for index in range(5):
        save(tmp_path / "photos" / "test" / f"{index}.png")
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for index in range(2):
                save(tmp_path / "labelled" / split / name / f"{index}.png", pixels(32, 32))
    data = beside(tmp_path)
    assert len(data.train) == 60
    for split in ("labelled", "val", "test"):
        assert data.splits[split].labels.tolist() == [0, 0, 1, 1]


def test_other_sizes_and_kinds_of_source_are_trained_at_one_size(photos, cifar10, tmp_path):
    for name in ("cat", "dog"):
        for index in range(3):
            save(tmp_path / "labelled" / name / f"{index}.png", pixels(50, 40))
    data = opened(photos / "photos", labelled=str(tmp_path / "labelled"), image_size=16)
    assert {images.size for images in data.splits.values()} == {16}
    assert data.labelled.fetch([0])[0].shape == (1, 3, 50, 40)
    data = opened(photos / "photos", labelled="digits", image_size=16)
    assert (data.classes, len(data.train)) == (tuple("0123456789"), 60)


@pytest.mark.parametrize("stored", ["folder", "parquet"])
def test_labelled_images_that_validate_or_test_never_train(photos, tmp_path, stored):
    shutil.copytree(photos / "labelled", tmp_path / "labelled")
    data = beside(photos)
    held_out = [*files(data.val), *files(data.test)]
    images = [file.read_bytes() for file in sorted((photos / "photos").iterdir())]
    images += [file.read_bytes() for file in sorted((photos / "labelled").rglob("*.png"))]
    if stored == "folder":
        for index, image in enumerate(images):
            write(tmp_path / "photos" / f"other-name-{index:03d}.png", image)
        source = tmp_path / "photos"
    else:
        source = tmp_path / "photos.parquet"
        parquet(source, images)
    found = opened(source, labelled=str(tmp_path / "labelled"))
    assert len(found.train) == 100 - len(held_out)
    decoded = {image.numpy().tobytes() for image in found.train.fetch(range(len(found.train)))[0]}
    for split in (found.val, found.test):
        assert not decoded & {image.numpy().tobytes() for image in split.fetch(range(len(split)))[0]}
    # Those that scores learn from do train: their labels are not used for it.
    assert {image.numpy().tobytes() for image in found.labelled.fetch(range(26))[0]} <= decoded
    (note,) = found.notes
    assert note.endswith(
        "14 images are also validation or test images of "
        f"data.labelled={str(tmp_path / 'labelled')!r}, and do not train"
    )


def test_pixels_are_compared_where_a_source_has_no_files(tmp_path):
    raw = open_source(DataConfig())["train"]
    for label, name in enumerate(raw.classes):
        for index in np.flatnonzero(raw.labels.numpy() == label)[:5].tolist():
            with raw.open(index) as image:
                save(tmp_path / "labelled" / name / f"{index}.png", np.array(image))
    data = opened("digits", labelled=str(tmp_path / "labelled"))
    assert (len(data.val), len(data.test)) == (10, 10)
    assert len(data.train) == raw.count - 20
    assert "20 images are also validation or test images" in data.notes[0]


def test_a_file_that_is_labelled_twice_is_not_learned_from_if_it_tests(photos, tmp_path):
    shutil.copytree(photos / "labelled", tmp_path / "labelled")
    tested = files(beside(photos).test)[0]
    shutil.copy(tested, tmp_path / "labelled" / "automobile" / "zz.png")
    seen = set()
    for seed in range(4):
        data = opened(photos / "photos", labelled=str(tmp_path / "labelled"), split_seed=seed)
        digests = {
            split: {image.numpy().tobytes() for image in images.fetch(range(len(images)))[0]}
            for split, images in data.splits.items()
        }
        assert not digests["test"] & (digests["val"] | digests["labelled"])
        assert not digests["val"] & digests["labelled"]
        seen.update(data.notes)
    assert any("images are left out, since" in note for note in seen)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), max_size=12), st.booleans())
def test_copies_are_those_of_the_same_content(own, others, as_files):
    def raw(values):
        images = [Image.new("L", (4, 4 + value % 2), value) for value in values]
        encoded = [stored(image) for image in images]
        files = Encoded(lambda: np.array(list(map(len, encoded)), dtype=np.int64), lambda i: encoded[i])
        return Raw(len(values), lambda i: images[i].copy(), str, None, (), files if as_files else None)

    part, other = (raw(own), np.arange(len(own))), (raw(others), np.arange(len(others)))
    assert find_copies(part, [other]).tolist() == [value in others for value in own]


def stored(image):
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()


def test_only_files_of_equal_length_are_read(photos, monkeypatch):
    read = []
    digest = copies._digest_of_bytes
    monkeypatch.setattr(copies, "_digest_of_bytes", lambda raw, row: (read.append(raw.name(row)), digest(raw, row))[1])
    lengths = {file: file.stat().st_size for file in (photos / "photos").iterdir()}
    data = beside(photos)
    held_out = {Path(name).stat().st_size for name in (*files(data.val), *files(data.test))}
    own = [name for name in read if "/photos/" in name]
    assert sorted(own) == sorted(str(file) for file, length in lengths.items() if length in held_out)


def test_broken_images_are_no_copies_of_each_other(tmp_path):
    broken = Raw(2, lambda i: (_ for _ in ()).throw(OSError()), str, None, ())
    assert not find_copies((broken, np.arange(2)), [(broken, np.arange(2))]).any()


def test_a_labelled_folder_inside_the_images_is_refused(photos):
    for source, labelled, said in (
        (photos, photos / "labelled", "lies inside data.source="),
        (photos / "labelled", photos, "lies inside data.labelled="),
        (photos / "labelled", photos / "labelled", "is data.source itself"),
        (photos / "labelled", photos / "photos" / ".." / "labelled", "is data.source itself"),
    ):
        with pytest.raises(DataError, match=said):
            opened(source, labelled=str(labelled))


def test_labels_that_cannot_score_are_refused(photos, tmp_path):
    def refused(folder, said):
        with pytest.raises(DataError, match=said) as error:
            opened(photos / "photos", labelled=str(folder))
        assert "\n" not in str(error.value)

    save(tmp_path / "flat" / "a.png")
    refused(tmp_path / "flat", r"data\.labelled='.*flat' has no labels; give a folder with one folder for each class")
    save(tmp_path / "one" / "cat" / "a.png")
    refused(tmp_path / "one", r"has no labels .*all images lie in one folder, cat")
    for name, count in (("cat", 5), ("dog", 1)):
        for index in range(count):
            save(tmp_path / "lone" / name / f"{index}.png")
    refused(tmp_path / "lone", r"class dog has 1 image; each class needs at least 3: one each to learn from, to val")
    save(tmp_path / "lone" / "dog" / "1.png")
    refused(tmp_path / "lone", "class dog has 2 images; each class needs at least 3")
    refused(tmp_path / "missing", r"data\.labelled='.*missing' is neither a known name nor a path")
    refused("torchvision:CIFAR11", r"data\.labelled='torchvision:CIFAR11' is unknown; did you mean 'CIFAR10'")
    save(tmp_path / "lone" / "dog" / "2.png")
    assert len(opened(photos / "photos", labelled=str(tmp_path / "lone")).test) == 2


def test_copies_that_leave_nothing_to_learn_from_are_refused(photos, tmp_path):
    for name in ("cat", "dog"):
        for index in range(3):
            save(
                tmp_path / "labelled" / name / f"{index}.png",
                np.full((8, 8, 3), 3 if name == "cat" else index, "uint8"),
            )
    with pytest.raises(DataError, match="no image is left to learn from of class cat"):
        opened(photos / "photos", labelled=str(tmp_path / "labelled"))


# --- one source, of which a part has labels


def partly(root, labelled=40, count=200):
    images = [png(pixels(8, 8)) for _ in range(count)]
    labels = [index % 2 if index < labelled else None for index in range(count)]
    parquet(root / "train.parquet", images, labels, names=["cat", "dog"])
    return root


def test_images_without_a_label_train_and_never_score(tmp_path):
    data = opened(partly(tmp_path))
    assert {split: len(images) for split, images in data.splits.items()} == {
        "train": 186,
        "labelled": 26,
        "val": 6,
        "test": 8,
    }
    assert int((data.train.labels >= 0).sum()) == 26
    assert all(bool((data.splits[split].labels >= 0).all()) for split in ("labelled", "val", "test"))
    assert set(files(data.labelled)) <= set(files(data.train))
    assert not set(files(data.train)) & {*files(data.val), *files(data.test)}
    (note,) = data.notes
    assert note.endswith("160 of 186 training images have no label; all train, the labelled ones also give the scores")
    with pytest.raises(ValueError, match="160 of 186 training images have no label, and this method learns from"):
        true_labels(data.train, "photos")


def test_test_images_without_a_label_are_left_out_and_said(tmp_path):
    for split, known in (("train", 40), ("test", 15)):
        images = [png(pixels(8, 8)) for _ in range(40)]
        labels = [index % 2 if index < known else -1 for index in range(40)]
        parquet(tmp_path / f"{split}.parquet", images, labels, names=["cat", "dog"])
    data = opened(tmp_path)
    assert len(data.test) == 15
    (note,) = data.notes
    assert note.endswith("25 of 40 test images have no label and are left out of the scores")
    assert note.startswith("labels: ")
    assert note in overview(data)


def test_a_limit_leaves_images_to_score(tmp_path):
    data = opened(partly(tmp_path, labelled=20), limit=10)
    assert len(data.train) == len(data.labelled) == 10


def test_own_test_split_with_labels_in_part(tmp_path):
    partly(tmp_path)
    parquet(tmp_path / "test.parquet", [png(pixels(8, 8)) for _ in range(6)], [0, None, 1, -1, 0, 1])
    data = opened(tmp_path)
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    assert len(data.train) + len(data.val) == 200


def test_own_test_split_with_labels_in_part_beside_a_labelled_training_split(tmp_path):
    partly(tmp_path, labelled=200)
    images = [png(pixels(8, 8)) for _ in range(6)]
    parquet(tmp_path / "test.parquet", images, [0, None, 1, -1, 0, 1])
    assert opened(tmp_path).test.labels.tolist() == [0, 1, 0, 1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-1, 2), min_size=12, max_size=60).filter(lambda labels: max(labels) >= 0),
    st.integers(0, 99),
    st.floats(0.05, 0.9),
)
def test_every_image_is_in_one_split_and_held_out_ones_have_labels(values, seed, fraction):
    labels = torch.tensor(values)
    parts = divide(
        {"train": Raw(len(values), None, str, labels, ())}, DataConfig(validation_fraction=fraction, split_seed=seed)
    )
    rows = np.concatenate([rows for _, rows in parts.values()])
    assert sorted(rows.tolist()) == list(range(len(values)))
    assert all(values[row] >= 0 for split in ("val", "test") for row in parts[split][1])


# --- the identity of what was trained on


def test_labelled_images_are_no_part_of_the_identity_of_the_training_images(photos, tmp_path):
    shutil.copytree(photos / "labelled", tmp_path / "elsewhere")
    save(tmp_path / "elsewhere" / "airplane" / "more.png")
    first, second = (
        identity(photos / "photos", labelled=str(labelled))
        for labelled in (photos / "labelled", tmp_path / "elsewhere")
    )
    assert first == second
    assert "left_out" not in first
    assert "labelled" not in first
    assert first != identity(photos / "photos")


def test_images_that_were_left_out_are_part_of_the_identity(photos, tmp_path):
    """Another choice of as many images trains another teacher, which has seen the test images of this one."""
    for file in [*(photos / "photos").iterdir(), *(photos / "labelled").rglob("*.png")]:
        if file.is_file():
            shutil.copy(file, write_folder(tmp_path) / f"{file.parent.name}-{file.name}")
    found = [identity(tmp_path / "all", labelled=str(photos / "labelled"), split_seed=seed) for seed in (0, 1)]
    assert len({each["left_out"] for each in found}) == 2


def write_folder(root):
    (root / "all").mkdir(exist_ok=True)
    return root / "all"


def identity(source, **options):
    config = DataConfig(source=str(source), **options)
    return images_identity(opened(source, **options), config)

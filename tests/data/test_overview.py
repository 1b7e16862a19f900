"""What is said of a data set before anything is trained, and the picture of its views."""

import shutil

import numpy as np
import pytest
from helpers.builders.datafiles import folder, opened, pixels, save

from raydistill import config as configuration
from raydistill.data.overview import copied_between, overview
from raydistill.data.sheet import DRAWS, HEAD, MARGIN, ROWS, TILE, contact_sheet, student_views
from raydistill.data.views.augment import View


def test_splits_classes_and_sizes_are_said(tmp_path):
    folder(tmp_path, ("train", "test"))
    save(tmp_path / "train" / "cat" / "wide.png", pixels(20, 30))
    (tmp_path / "README.txt").write_text("two classes")
    lines = overview(opened(tmp_path))
    assert lines[0] == "train  10 images  2 classes: cat 5, dog 5"
    assert lines[2] == "test   12 images  2 classes: cat 6, dog 6"
    assert lines[3].startswith("sizes: 10 x 10")
    assert lines[-1] == f"note: {tmp_path}: passed over .txt files (1)"


def test_a_folder_called_unlabelled_lacks_no_labels_for_its_name(tmp_path):
    place = folder(tmp_path / "unlabeled2017", ("train", "test"))
    (place / "notes.txt").write_text("")
    (line,) = [line for line in overview(opened(place)) if "passed over" in line]
    assert line.startswith("note: ")


def test_images_that_every_epoch_decodes_are_said(tmp_path):
    folder(tmp_path, ("train", "test"))
    assert not [line for line in overview(opened(tmp_path)) if "every epoch" in line]
    assert not [line for line in overview(opened(tmp_path, cache_gib=0, disk_cache_gib=1)) if "every epoch" in line]
    (said,) = [line for line in overview(opened(tmp_path, cache_gib=1e-6)) if "every epoch" in line]
    assert said.endswith("--set data.disk_cache_gib=1 keeps them on disk")


def test_many_classes_are_shortened(tmp_path):
    folder(tmp_path, ("train", "test"), [f"c{i:02}" for i in range(12)], 3)
    assert "12 classes: c00 3, c01 3" in overview(opened(tmp_path))[2]
    assert "and 2 more, of 3 to 3" in overview(opened(tmp_path))[2]


@pytest.mark.fault(17)
def test_images_that_stand_in_two_splits_are_named(tmp_path):
    folder(tmp_path, ("train", "test"))
    shutil.copy(tmp_path / "test" / "dog" / "0.png", tmp_path / "train" / "dog" / "copy.png")
    (said,) = copied_between(opened(tmp_path, validation_fraction=0.01))
    assert said == f"1 image of train is also in val or test, such as {tmp_path}/train/dog/copy.png"


def test_what_looks_wrong_is_said_and_counts_no_image_as_bad(tmp_path):
    folder(tmp_path, ("train", "test"))
    for name in ("cat", "dog"):
        save(tmp_path / "train" / name / "flat.png", np.full((10, 10, 3), 7, np.uint8))
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"no image")
    data = opened(tmp_path, on_bad_image="skip", validation_fraction=0.01)
    said = "\n".join(overview(data))
    assert "images have no contrast, such as" in said
    assert f"cannot be read: {tmp_path}/train/cat/broken.png" in said
    assert data.train.bad == 0


def test_the_picture_has_a_row_for_each_class_and_columns_for_the_views(tmp_path):
    folder(tmp_path, ("train", "test"), ("cat", "dog", "owl"), 10)
    sheet = contact_sheet(opened(tmp_path), [View("small", 0), View("small", 1)])
    assert sheet.size == ((1 + DRAWS) * (TILE + MARGIN) + MARGIN, ROWS * (TILE + HEAD) + HEAD + MARGIN)
    corner = np.asarray(sheet)[HEAD : HEAD + TILE, MARGIN : MARGIN + TILE]
    assert corner.std() > 20


def test_images_that_cannot_be_read_or_named_leave_a_picture(tmp_path):
    folder(tmp_path / "odd", ("train", "test"), ("caf\u00e9", "\u732b"))
    assert contact_sheet(opened(tmp_path / "odd"), [View("small", 0)]).height > TILE
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            (tmp_path / "broken" / split / name).mkdir(parents=True)
            for index in range(6):
                (tmp_path / "broken" / split / name / f"{index}.png").write_bytes(b"no image")
    data = opened(tmp_path / "broken", on_bad_image="skip", image_size=8)
    assert contact_sheet(data, [View("small", 0)]).size == (TILE, HEAD)


def test_the_views_are_those_of_the_student():
    config = configuration.load({"method": {"name": "mocov3"}, "augment": {"rotation": 5}})
    assert [view.recipe for view in student_views(config)] == ["byol1", "byol2"]
    assert all(view.changes.rotation == 5 for view in student_views(config))

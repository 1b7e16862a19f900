"""VOC and COCO as they lie in folders: which images, boxes, classes and masks, and errors that name what is wrong."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers.builders.detection_folders import draw_coco
from PIL import Image

from raydistill.data.images import DataError
from raydistill.evaluation.benchmarks.detection_data import draw_voc, open_benchmark, read_masks, read_pixels
from raydistill.evaluation.tasks.base import TaskError

XML = """<annotation><folder>VOC2007</folder><filename>000001.jpg</filename>
<size><width>30</width><height>20</height><depth>3</depth></size>
<object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>
<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>
<object><name>car</name><difficult>1</difficult>
<bndbox><xmin>5.0</xmin><ymin>7</ymin><xmax>14</xmax><ymax>16</ymax></bndbox></object></annotation>"""


def voc(root, year="VOC2007", splits=("trainval", "test"), xml=XML):
    """Each split has one image of 30x20 px with a dog and a difficult car."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / year / part).mkdir(parents=True)
    for split in splits:
        Image.new("RGB", (30, 20), (9, 8, 7)).save(root / year / "JPEGImages" / f"{year}_{split}.jpg")
        (root / year / "Annotations" / f"{year}_{split}.xml").write_text(xml)
        (root / year / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{year}_{split}\n")
    return root


def test_voc_is_read_as_its_files_say(tmp_path):
    found = open_benchmark(voc(tmp_path))
    (image,) = found.test
    assert found.kind == "voc"
    assert found.classes == ("car", "dog")
    assert image.size == (30, 20)
    # Pixels 1 to 30 reach from edge 0 to edge 30; pixels 5 to 14 from 4 to 14.
    assert image.boxes.tolist() == [[0, 0, 30, 20], [4, 6, 14, 16]]
    assert image.labels.tolist() == [2, 1]
    assert image.difficult.tolist() == [False, True]
    assert read_pixels(image).shape == (3, 20, 30)


def test_trainval_of_2012_joins_that_of_2007(tmp_path):
    root = voc(tmp_path / "VOCdevkit")
    assert [image.path.stem for image in open_benchmark(tmp_path).train] == ["VOC2007_trainval"]
    voc(root, "VOC2012", ("trainval",))
    found = open_benchmark(tmp_path)
    assert [image.path.stem for image in found.train] == ["VOC2007_trainval", "VOC2012_trainval"]
    assert [image.path.stem for image in found.test] == ["VOC2007_test"]


def test_training_images_without_objects_are_left_out(tmp_path):
    voc(tmp_path)
    empty = "<annotation><size><width>30</width><height>20</height></size></annotation>"
    listing = tmp_path / "VOC2007" / "ImageSets" / "Main" / "trainval.txt"
    (tmp_path / "VOC2007" / "Annotations" / "empty.xml").write_text(empty)
    listing.write_text(listing.read_text() + "empty\n")
    assert len(open_benchmark(tmp_path).train) == 1
    listing.write_text("empty\n")
    with pytest.raises(DataError, match="no training image has an object"):
        open_benchmark(tmp_path)


def test_the_drawn_voc_has_the_layout_and_what_its_boxes_say(tmp_path):
    found = open_benchmark(draw_voc(tmp_path))
    assert (tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").is_file()
    assert found.classes == ("ellipse", "rectangle")
    assert (len(found.train), len(found.test)) == (16, 8)
    assert sum(image.difficult.sum() for image in found.test) == 2
    for image in found.test:
        pixels = read_pixels(image).numpy().astype(int)
        ground = pixels[:, 0, 0]
        for left, top, right, bottom in image.boxes.astype(int):
            middle = pixels[:, (top + bottom) // 2]
            assert np.abs(middle[:, left + 2 : right - 2] - ground[:, None]).max(0).min() > 20
    assert open_benchmark(draw_voc(tmp_path)).test[0].boxes.tolist() == found.test[0].boxes.tolist()


def test_coco_is_read_without_crowds(tmp_path):
    found = open_benchmark(draw_coco(tmp_path / "coco"))
    assert found.kind == "coco"
    assert found.classes == ("blue", "red")
    assert found.categories == (3, 7)
    assert (len(found.train), len(found.test)) == (4, 2)
    image = found.train[0]
    assert image.boxes.tolist() == [[8, 8, 24, 40], [30, 10, 40, 30]]
    assert image.labels.tolist() == [2, 1]


def test_masks_come_from_polygons_and_from_run_lengths(tmp_path):
    image = open_benchmark(draw_coco(tmp_path / "coco")).train[0]
    expected = np.zeros((2, 48, 48))
    expected[0, 8:40, 8:24] = 1
    expected[1, 10:30, 30:40] = 1
    assert np.array_equal(read_masks(image).numpy(), expected)


def test_compressed_run_lengths_are_read_too(tmp_path):
    from faster_coco_eval import mask

    folder = draw_coco(tmp_path / "coco")
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    inside = np.zeros((48, 48), np.uint8)
    inside[3:9, 5:30] = 1
    counts = mask.encode(np.asfortranarray(inside))["counts"]
    text = counts.decode() if isinstance(counts, bytes) else counts
    content["annotations"][0]["segmentation"] = {"size": [48, 48], "counts": text}
    path.write_text(json.dumps(content))
    assert np.array_equal(read_masks(open_benchmark(folder).train[0])[0].numpy(), inside)


def test_coco_without_its_library_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(TaskError, match=r"pip install raydistill\[detection\]"):
        open_benchmark(draw_coco(tmp_path / "coco"))


@pytest.mark.parametrize("name", ["", "nothing"])
def test_folders_without_a_benchmark_say_what_is_expected(tmp_path, name):
    with pytest.raises(TaskError, match=r"VOC2007/.*trainval.*or annotations/instances_\{train2017,val2017\}.json"):
        open_benchmark(tmp_path / name)


def edited(before, after):
    return lambda root: [
        path.write_text(path.read_text().replace(before, after)) for path in (root / "VOC2007").rglob("*_test.xml")
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "VOC2007/ImageSets/Main/test.txt").unlink(), r"test.txt is missing; expected VOC2007"),
        (lambda root: (root / "VOC2007/ImageSets/Main/test.txt").write_text(""), "test.txt names no image"),
        (lambda root: (root / "VOC2007/ImageSets/Main/test.txt").write_text("000009"), "000009.xml is missing"),
        (edited("</annotation>", ""), "_test.xml: no annotation of VOC"),
        (edited("<xmax>30", "<xmax>many"), "_test.xml: no annotation of VOC"),
        (edited("<width>30</width>", ""), "no size/width"),
        (edited("<xmax>30", "<xmax>0"), "a bndbox whose xmax"),
        (edited("dog", "cow"), "'cow' is no class of the training images: car, dog"),
    ],
)
def test_damaged_voc_names_the_file(tmp_path, damage, message):
    damage(voc(tmp_path))
    with pytest.raises(DataError, match=message):
        open_benchmark(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "annotations/instances_val2017.json").unlink(), "instances_val2017.json is missing"),
        (lambda root: (root / "annotations/instances_val2017.json").write_text("{"), "val2017.json: no JSON"),
        (lambda root: (root / "annotations/instances_val2017.json").write_text("[]"), "lists images, annotations"),
        (lambda root: shutil.rmtree(root / "val2017"), "val2017 is missing"),
    ],
)
def test_damaged_coco_names_the_file(tmp_path, damage, message):
    folder = draw_coco(tmp_path / "coco")
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_benchmark(folder)


def test_coco_with_an_unknown_category_or_a_bad_outline_says_so(tmp_path):
    folder = draw_coco(tmp_path / "coco")
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, "x", 4, 5, 6]]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="outline 1 cannot be read"):
        read_masks(open_benchmark(folder).train[0])
    content["annotations"][0]["category_id"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="are not COCO's \\(KeyError: 5"):
        open_benchmark(folder)


def test_images_that_cannot_be_read_or_have_another_size_are_named(tmp_path):
    image = open_benchmark(voc(tmp_path)).test[0]
    Image.new("RGB", (20, 30)).save(image.path)
    with pytest.raises(DataError, match=r"_test.jpg: 20x30 px, but its annotation says 30x20"):
        read_pixels(image)
    image.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"_test\.jpg: cannot be read as an image"):
        read_pixels(image)

"""Published layouts in which a file beside the images holds their labels."""

import json
import shutil

import pytest
import torch
from helpers.builders.datafiles import folder, opened, save

from raydistill.data.images import DataError
from raydistill.data.layouts.folders import read_folder


def flat(path, count=6, name="{}.png"):
    for index in range(count):
        save(path / name.format(index))
    return path


def tiny_imagenet(root):
    """As http://cs231n.stanford.edu publishes it: images below each class, a table of validation, unlabelled test."""
    for wnid in ("n01443537", "n01629819"):
        flat(root / "train" / wnid / "images", 10, wnid + "_{}.JPEG")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t32\t44\t62\n")
    flat(root / "val" / "images", 8, "val_{}.JPEG")
    rows = [f"val_{i}.JPEG\t{('n01629819', 'n01443537')[i % 2]}\t0\t32\t44\t62\n" for i in range(8)]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    flat(root / "test" / "images", 5, "test_{}.JPEG")
    (root / "wnids.txt").write_text("n01443537\nn01629819\n")
    (root / "words.txt").write_text("n01443537\tgoldfish\n")
    return root


def test_tiny_imagenet_tests_on_its_validation_images(tmp_path):
    data = opened(tiny_imagenet(tmp_path))
    assert data.classes == ("n01443537", "n01629819")
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 8)
    assert data.test.labels.tolist() == [1, 0] * 4
    said = " ".join(data.notes)
    assert "labels of 8 of 8 images from" in said
    assert "the test split has no labels, so the validation split is the test split" in said


def hub_csv(root):
    flat(root)
    rows = ["file_name,label", *(f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(6))]
    (root / "metadata.csv").write_text("\ufeff" + "\r\n".join(rows) + "\r\n", encoding="utf-8")


def hub_jsonl(root):
    flat(root / "train", 6)
    lines = [json.dumps({"file_name": f"train/{i}.png", "label": "cat" if i % 2 else "dog"}) for i in range(6)]
    (root / "metadata.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("write", [hub_csv, hub_jsonl])
def test_metadata_of_the_hubs_image_folders(tmp_path, write):
    write(tmp_path)
    raw = read_folder(tmp_path)["train"]
    assert raw.classes == ("cat", "dog")
    assert raw.labels.tolist() == [1, 0] * 3


def test_metadata_may_have_labels_in_part_and_none(tmp_path):
    flat(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,10\n1.png,9\n2.png,\n3.png,-1\n")
    raw = read_folder(tmp_path)["train"]
    assert raw.classes == ("9", "10")
    assert raw.labels.tolist() == [1, 0, -1, -1, -1, -1]
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,a cat\n")
    assert read_folder(tmp_path)["train"].labels is None


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "path,label\n0.png,1\n", "no column file_name; it has path, label"),
        ("metadata.jsonl", '{"file_name": "0.png", "label": [1, 2]}', "label holds several values"),
        ("metadata.jsonl", '{"file_name": "0.png"', "cannot be understood"),
    ],
)
def test_metadata_that_cannot_be_understood_is_refused(tmp_path, name, text, message):
    flat(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize("by", ["torchvision", "kaggle"])
def test_imagenet_with_a_flat_validation_folder(tmp_path, by):
    folder(tmp_path, ("train",), ("n01", "n02"))
    flat(tmp_path / "val", 4, "ILSVRC2012_val_0000000{}.JPEG")
    wnids = ["n02", "n01", "n01", "n02"]
    if by == "torchvision":
        torch.save(({"n01": ("tench",), "n02": ("goldfish",)}, wnids), tmp_path / "meta.bin")
    else:
        rows = [f"ILSVRC2012_val_0000000{i},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for i, wnid in enumerate(wnids)]
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    data = opened(tmp_path)
    assert data.test.labels.tolist() == [1, 0, 0, 1]
    assert data.classes == ("n01", "n02")


def test_a_list_of_another_length_is_refused(tmp_path):
    folder(tmp_path, ("train",), ("n01", "n02"))
    flat(tmp_path / "val", 3)
    torch.save(({}, ["n01", "n02"]), tmp_path / "meta.bin")
    with pytest.raises(DataError, match="2 classes for 3 images of val"):
        read_folder(tmp_path)


@pytest.mark.fault(17)
def test_hidden_test_labels_are_said(tmp_path):
    folder(tmp_path, ("train",))
    flat(tmp_path / "test", 6)
    data = opened(tmp_path)
    assert data.test.labels is None
    assert any("the test split has no labels, so there is no test accuracy" in note for note in data.notes)
    shutil.move(tmp_path / "test", tmp_path / "val")
    assert any("val" in note and "no labels" in note for note in opened(tmp_path).notes)

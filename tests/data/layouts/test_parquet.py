"""Parquet in the layouts that the Hugging Face Hub has, and what is no whole set of files."""

from types import SimpleNamespace

import pytest
from helpers.builders.datafiles import parquet, pixels, png

from raydistill.data.images import DataError
from raydistill.data.layouts import unpacked
from raydistill.data.sources import read_path


def shards(root, *names, rows=4):
    for name in names:
        parquet(root / name, [png(pixels())] * rows, [0, 1] * (rows // 2), ["a", "b"])
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            (
                "data/train-00000-of-00002-6a21c9be0d7f43e1.parquet",
                "data/train-00001-of-00002-0b94d2ac55e8f017.parquet",
                "data/test-00000-of-00001-9c0de1f27ab3c456.parquet",
            ),
            {"train": 8, "test": 4},
        ),
        (
            ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
            {"train": 4, "test": 4},
        ),
        (
            ("default/train/0000.parquet", "default/train/0001.parquet", "default/validation/0000.parquet"),
            {"train": 8, "val": 4},
        ),
        (("default/partial-train/0000.parquet", "default/test/0000.parquet"), {"train": 4, "test": 4}),
        (("train/0000.parquet", "test/0000.parquet"), {"train": 4, "test": 4}),
        (("0000.parquet", "0001.parquet"), {"train": 8}),
        (("images.parquet",), {"train": 4}),
        (("train.parquet", "validation.parquet", "test.parquet"), {"train": 4, "val": 4, "test": 4}),
        (("train.parquet", ".cache/huggingface/train.parquet"), {"train": 4}),
    ],
)
def test_layouts(tmp_path, names, splits):
    found = read_path(shards(tmp_path, *names))
    assert {split: raw.count for split, raw in found.items()} == splits
    assert all(raw.classes == ("a", "b") for raw in found.values())


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    shards(tmp_path, *(f"train/{index}.parquet" for index in (9, 10, 11)))
    raw = read_path(tmp_path)["train"]
    assert [raw.name(index).rpartition("/")[2] for index in (0, 4, 8)] == [
        "9.parquet row 0",
        "10.parquet row 0",
        "11.parquet row 0",
    ]


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("plain/train-00000-of-00001.parquet", "coarse/train-00000-of-00001.parquet"), r"\(coarse, plain\); give one"),
        (("train.parquet", "train-00000-of-00001.parquet"), "both claim to be the train split"),
        (("data/train-00000-of-00002-6a21c9be0d7f43e1.parquet",), "1 of 2 shards of the train split"),
        (("train/0000.parquet", "train/0002.parquet"), r"train split are missing; there are \[0, 2\]"),
        (("test.parquet", "part.parquet"), r"no train\*\.parquet among part\.parquet"),
        (("cats.parquet", "dogs.parquet"), "both claim to be the train split"),
    ],
)
def test_what_is_no_whole_set_of_files_is_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_path(shards(tmp_path, *names))


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Files count as too large for memory."""
    monkeypatch.setattr(unpacked, "IN_MEMORY", 0)
    monkeypatch.setattr(unpacked, "_ROWS", 3)
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unpacked"


def everything(folder):
    """Labels, classes and encoded images of each split."""
    return {
        split: (raw.labels.tolist(), raw.classes, [raw.encoded.read(row) for row in range(raw.count)])
        for split, raw in read_path(folder).items()
    }


def test_files_that_are_large_are_read_in_place_and_unpacked_once(tmp_path, large, monkeypatch):
    folder = tmp_path / "data"
    for split in ("train", "test"):
        parquet(folder / f"{split}.parquet", [png(pixels(n + 3)) for n in range(8)], [0, 1] * 4, ["cat", "dog"])
    with monkeypatch.context() as context:
        context.setattr(unpacked, "IN_MEMORY", 2**30)
        expected = everything(folder)
    assert not large.exists()
    assert everything(folder) == expected
    written = {path: path.stat().st_mtime_ns for path in large.glob("*.arrow")}
    assert len(written) == 2
    assert everything(folder) == expected
    assert {path: path.stat().st_mtime_ns for path in large.glob("*.arrow")} == written
    parquet(folder / "train.parquet", [png(pixels(9))] * 4, [1, 0] * 2, ["cat", "dog"])
    assert everything(folder)["train"][0] == [1, 0, 1, 0]
    assert len(list(large.glob("*.arrow"))) == 2, "what was unpacked before is gone"


@pytest.mark.fault(7)
def test_an_unpacked_file_that_is_damaged_is_made_anew(tmp_path, large):
    parquet(tmp_path / "data" / "train.parquet", [png(pixels(n + 3)) for n in range(8)], [0, 1] * 4)
    expected = everything(tmp_path / "data")
    (file,) = large.glob("*.arrow")
    for damaged in (file.read_bytes()[:-20], b""):
        file.write_bytes(damaged)
        assert everything(tmp_path / "data") == expected


def test_too_little_room_to_unpack_is_said(tmp_path, large, monkeypatch):
    parquet(tmp_path / "data" / "train.parquet", [png(pixels())] * 8, [0, 1] * 4)
    monkeypatch.setattr(unpacked.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(DataError, match=r"GiB are needed, 0.0 GiB are free\); set RAYDISTILL_CACHE"):
        read_path(tmp_path / "data")
    assert not list(large.glob("*.part"))

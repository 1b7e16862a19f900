"""Images that cannot be read and sources that cannot be opened: errors name the place."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.builders.datafiles import folder, opened, parquet, pixels, png, save, split_of

from raydistill.data import images as module
from raydistill.data.images import BadImageError, DataError

# Images


def broken(kind):
    data = png(pixels(64, 64))
    return {"empty": b"", "text": b"not an image", "truncated": data[: len(data) // 2]}[kind]


def bad_folder(root, data):
    for i in range(6):
        for split in ("train", "test"):
            save(root / split / f"{i}.png", pixels(64, 64))
    bad = root / "test" / "2.png"
    bad.write_bytes(data)
    return str(bad)


def bad_parquet(root, data):
    images = [png(pixels(64, 64)) for _ in range(6)]
    parquet(root / "train.parquet", images)
    parquet(root / "test.parquet", [*images[:2], data, *images[3:]])
    return f"{root / 'test.parquet'} row 2"


@pytest.mark.fault(16)
@pytest.mark.parametrize("cache_gib", [0, 1])
@pytest.mark.parametrize("kind", ["empty", "text", "truncated"])
@pytest.mark.parametrize("write", [bad_folder, bad_parquet])
def test_unreadable_image(tmp_path, write, kind, cache_gib):
    name = write(tmp_path, broken(kind))
    with pytest.raises(BadImageError) as caught:
        opened(tmp_path, cache_gib=cache_gib).test.fetch([2])
    assert str(caught.value).startswith(f"{name}: unreadable image (")

    test = opened(tmp_path, cache_gib=cache_gib, on_bad_image="skip").test
    images, used = test.fetch([1, 2, 5])
    assert images.shape == (3, 3, 64, 64)
    assert used.tolist() == [1, 3, 5]
    assert torch.equal(images[1], test.fetch([3])[0][0])
    test.fetch([2])
    assert test.bad == 1


@pytest.mark.fault(16)
@pytest.mark.parametrize("cache_bytes", [0.0, 1e9])
def test_skipping_wraps_and_gives_up_when_all_are_bad(cache_bytes):
    split = split_of(None, pixels(), None, None, skip=True, cache_bytes=cache_bytes)
    assert split.fetch([2, 3, 0])[1].tolist() == [1, 1, 1]
    assert split.bad == 3
    with pytest.raises(BadImageError, match=r"all 2 images are unreadable, the first of them file 2"):
        split.subset([2, 3]).fetch([0])
    with pytest.raises(BadImageError, match="all 2 images are unreadable"):
        split_of(None, None, skip=True, cache_bytes=cache_bytes).fetch([0])


@pytest.mark.fault(16)
def test_a_missing_file_is_a_bad_image(tmp_path):
    folder(tmp_path)
    data = opened(tmp_path)
    gone = tmp_path / "test" / "cat" / "0.png"
    gone.unlink()
    with pytest.raises(BadImageError, match=str(gone)):
        data.test.fetch([0])


@pytest.mark.fault(16)
def test_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch):
    monkeypatch.setattr("raydistill.data.images.MAX_PIXELS", 99)
    folder(tmp_path)
    with pytest.raises(BadImageError, match=r"\d\.png: unreadable image \(10x10 pixels; at most 99"):
        opened(tmp_path, image_size=8).train.fetch([0])


@pytest.mark.fault(15)
def test_parquet_paths_are_not_followed(tmp_path):
    save(tmp_path / "secret.png")
    rows = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 10
    pq.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="accepted: binary, or a struct with bytes"):
        opened(tmp_path / "x.parquet")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "x.parquet")
    with pytest.raises(BadImageError, match=r"x\.parquet row \d+: unreadable image \(no bytes"):
        opened(tmp_path / "x.parquet")


# Sources


@pytest.mark.fault(15)
@pytest.mark.parametrize("source", ["no/such/place", "../digits/..", "digits/../../etc/x", "digit", "a\0b", ""])
def test_unknown_source_lists_what_is_accepted(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"(?s)accepted: .*torchvision:NAME.*Parquet|no image and no Parquet"):
        opened(source)


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", ["CIFAR1O", "../CIFAR10", "CIFAR10/../../x", "folder.os", "__class__", ""])
def test_torchvision_takes_known_names_only(name):
    with pytest.raises(DataError, match=r"torchvision:.* is unknown; (did you mean|valid: )") as caught:
        opened(f"torchvision:{name}")
    if name == "CIFAR1O":
        assert "did you mean 'CIFAR10'?" in str(caught.value)


def both_validations(root):
    folder(root, ("train", "val", "valid"))


def no_train(root):
    folder(root, ("test",))


def mixed(root):
    folder(root, ("train",))
    save(root / "train" / "loose.png")


def missing_shard(root):
    parquet(root / "train-00000-of-00002.parquet", [png(pixels())] * 10)


def two_trains(root):
    for name in ("train.parquet", "data/train-00000-of-00001.parquet"):
        parquet(root / name, [png(pixels())] * 10)


def no_train_parquet(root):
    for name in ("test", "part"):
        parquet(root / f"{name}.parquet", [png(pixels())] * 10)


def other_names(root):
    parquet(root / "train.parquet", [png(pixels())] * 10, [0, 1] * 5, ["a", "b"])
    parquet(root / "test.parquet", [png(pixels())] * 10, [0, 1] * 5, ["b", "a"])


def too_few_names(root):
    parquet(root / "train.parquet", [png(pixels())] * 10, [0, 2] * 5, ["a", "b"])


def text_labels(root):
    parquet(root / "train.parquet", [png(pixels())] * 10, ["a", "b"] * 5)


def no_image_column(root):
    pq.write_table(pa.table({"picture": [b"x"]}), root / "train.parquet")


def not_parquet(root):
    (root / "train.parquet").write_bytes(b"PAR1 no more")


def no_rows(root):
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), root / "train.parquet")


def nothing(root):
    (root / "notes.txt").write_text("none")


def one_image(root):
    save(root / "0.png")


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (both_validations, "valid and .*val both claim to be the val split"),
        (no_train, "has test but no train folder"),
        (mixed, r"holds both images \(loose\.png\) and folders \(cat\)"),
        (missing_shard, "1 of 2 shards of the train split"),
        (two_trains, "both claim to be the train split"),
        (no_train_parquet, r"no train\*\.parquet among part\.parquet, test\.parquet"),
        (other_names, "different classes: the order"),
        (too_few_names, "label 2 for 2 class names"),
        (text_labels, "column label is string; accepted: whole numbers"),
        (no_image_column, "no column image or img; it has picture"),
        (not_parquet, r"train\.parquet: not readable as Parquet"),
        (no_rows, r"train\.parquet: no rows"),
        (nothing, r"no image and no Parquet, but \.txt files \(1\); accepted: \.parquet, \.apng"),
        (one_image, r"no image is left for val \(sizes .*at least two images"),
    ],
)
def test_ambiguous_or_incomplete_data(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


class TestImagesOnAGpu:
    """On a device that computes nothing, in place of a GPU."""

    META = torch.device("meta")

    def test_images_that_fit_are_copied_once_and_indexed_there(self, monkeypatch):
        images = split_of(*[pixels(8, 8) for _ in range(6)], cache_bytes=1e6)
        monkeypatch.setattr(module, "free_memory_of", lambda device: 6 * 3 * 8 * 8 / module.GPU_SHARE)
        first, used = images.fetch([4, 1], self.META)
        again, _ = images.subset([5, 0, 3]).fetch([2], self.META)
        assert (first.device, first.shape) == (self.META, (2, 3, 8, 8))
        assert (again.device, again.shape) == (self.META, (1, 3, 8, 8))
        assert used.tolist() == [4, 1]
        assert images._decoder.stacked_on(self.META) is images._decoder.stacked_on(self.META)
        assert images.fetch([4])[0].device.type == "cpu", "without a device as before"

    def test_without_room_they_stay(self, monkeypatch):
        images = split_of(*[pixels(8, 8) for _ in range(6)], cache_bytes=1e6)
        monkeypatch.setattr(module, "free_memory_of", lambda device: 6 * 3 * 8 * 8 / module.GPU_SHARE - 100)
        assert images.fetch([4, 1], self.META)[0].device.type == "cpu"

    def test_images_of_several_sizes_stay(self, monkeypatch):
        images = split_of(*[pixels(8, 8 + k) for k in range(6)], cache_bytes=1e6)
        monkeypatch.setattr(module, "free_memory_of", lambda device: 1e9)
        assert all(image.device.type == "cpu" for image in images.fetch([4, 1], self.META)[0])

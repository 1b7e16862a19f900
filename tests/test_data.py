"""Sources, decoding, splits: what comes out is what lies on disk, once, and errors name the place."""

import hashlib
import io
import json
import pickle
import struct
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.config import Data
from raydistill.data.images import BadImage, DataError, Decoder, Images, Raw, apportion, draw, limited
from raydistill.data.sources import TORCHVISION, divide, load_dataset

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def pixels(height=10, width=10, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if array is None else array).save(path)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def folder(root, splits=("train", "test"), classes=("cat", "dog"), per_class=6):
    for split in splits:
        for name in classes:
            for i in range(per_class):
                save(root / split / name / f"{i}.png")
    return root


def parquet(path, images, labels=None, names=None, image="image", label="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {image: [{"bytes": data, "path": None} for data in images]}
    if labels is not None:
        columns[label] = labels
    table = pa.table(columns)
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        meta = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": meta})
    pq.write_table(table, path)


def opened(source, **settings):
    return load_dataset(Data(source=str(source), **settings))


def split_of(*images, skip=False, cache_bytes=0.0):
    """A split of in-memory images; None stands for an unreadable one."""

    def read(index):
        if images[index] is None:
            raise OSError("cannot identify image file")
        return Image.fromarray(images[index])

    raw = Raw(len(images), read, lambda i: f"file {i}", torch.arange(len(images)), ())
    decoder = Decoder(raw, np.arange(len(images)), skip=skip, cache_bytes=cache_bytes)
    return Images(decoder, torch.arange(len(images)), raw.labels, (), 10)


# --- the four sources


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = opened("digits")
    assert (data.image_size, data.train.size, data.classes) == (12, 12, tuple("0123456789"))
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert abs(len(data.test) - 0.2 * 1797) < 1
    reference = load_digits()
    expected = {np.round(x / 16 * 255).astype(np.uint8).tobytes(): y for x, y in zip(*_xy(reference), strict=True)}
    for part in (data.train, data.val, data.test):
        images, used = part.fetch(range(len(part)))
        assert images.shape == (len(part), 3, 8, 8)
        assert images.dtype == torch.uint8
        assert bool((images == images[:, :1]).all())
        found = [expected[image[0].numpy().tobytes()] for image in images]
        assert torch.equal(torch.tensor(found), part.labels[used])


def _xy(bunch):
    return bunch.images, bunch.target


def test_digits_test_split_ignores_the_split_seed():
    first, second = (opened("digits", split_seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.fetch(range(300))[0], second.test.fetch(range(300))[0])
    assert not torch.equal(first.train.fetch(range(300))[0], second.train.fetch(range(300))[0])


def test_cifar10_parquet(cifar10):
    data = opened(cifar10)
    assert (len(data.train), len(data.val), len(data.test)) == (40_000, 10_000, 10_000)
    assert data.image_size == 32
    assert data.classes[0] == "airplane"
    assert torch.bincount(data.val.labels).tolist() == [1000] * 10
    row = pq.read_table(cifar10 / "test.parquet").slice(7, 1).to_pylist()[0]
    expected = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
    image = opened(cifar10, cache_gib=0).test.fetch([7])[0][0]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    assert int(data.test.labels[7]) == row["label"]


def write_cifar(root, monkeypatch, per_file=20):
    from torchvision.datasets import CIFAR10

    base = root / CIFAR10.base_folder
    base.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch():
        labels = [i % 10 for i in range(per_file)]
        return {"data": RNG.integers(0, 256, (per_file, 3072), dtype=np.uint8), "labels": labels}

    batches = {name: batch() for name in ("data_batch_1", "data_batch_2", "test_batch")}
    listed = [[name, write(name, content)] for name, content in batches.items()]
    monkeypatch.setattr(CIFAR10, "train_list", listed[:2])
    monkeypatch.setattr(CIFAR10, "test_list", listed[2:])
    meta = write("batches.meta", {"label_names": [f"class{i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return base, batches


def test_torchvision_cifar10(tmp_path, monkeypatch):
    _, batches = write_cifar(tmp_path, monkeypatch)
    data = opened("torchvision:cifar10", root=str(tmp_path))
    assert (len(data.train), len(data.val), len(data.test), data.image_size) == (30, 10, 20, 32)
    assert data.classes == tuple(f"class{i}" for i in range(10))
    images, used = data.test.fetch([3, 0])
    assert np.array_equal(images.reshape(2, -1).numpy(), batches["test_batch"]["data"][[3, 0]])
    assert data.test.labels[used].tolist() == [3, 0]


@pytest.mark.fault(8)
def test_torchvision_cifar10_runs_no_foreign_pickle(tmp_path, monkeypatch):
    base, _ = write_cifar(tmp_path, monkeypatch)
    proof = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (proof,)

    (base / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="corrupted"):
        opened("torchvision:CIFAR10", root=str(tmp_path))
    assert not proof.exists()


def test_torchvision_mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        header = struct.pack(">iiii", 0x803, 40, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, 40) + labels.tobytes())
    data = opened("torchvision:MNIST", root=str(tmp_path), validation_fraction=0.5)
    found, used = data.test.fetch([39])
    assert np.array_equal(found[0].numpy(), np.stack([images[39]] * 3))
    assert int(data.test.labels[used]) == 9
    assert data.image_size == 28
    assert torch.bincount(data.val.labels).tolist() == [2] * 10


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_names_and_arguments_exist(name, tmp_path):
    with pytest.raises(DataError, match=r"data\.download=true|h5py") as caught:
        opened(f"torchvision:{name}", root=str(tmp_path))
    assert "not found" in str(caught.value).lower()


def test_folder_with_splits(tmp_path):
    folder(tmp_path, ("train", "validation", "test"))
    data = opened(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 12, 12)
    assert data.classes == ("cat", "dog")
    assert data.val.labels.tolist() == [0] * 6 + [1] * 6
    images, _ = data.test.fetch([7])
    expected = np.asarray(Image.open(tmp_path / "test" / "dog" / "1.png"))
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), expected)
    assert data.image_size == 10


def test_folder_whose_only_other_split_is_validation_tests_on_it(tmp_path):
    data = opened(folder(tmp_path, ("train", "valid")), validation_fraction=0.5)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 6, 12)


def test_folder_of_classes_alone(tmp_path):
    for name in ("b", "a"):
        for i in range(10):
            save(tmp_path / name / "deep" / f"{i}.PNG")
    data = opened(tmp_path)
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.val), len(data.test)) == (13, 3, 4)


def test_folder_without_classes_has_no_labels(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", pixels(80, 80))
    data = opened(tmp_path)
    assert data.train.labels is None
    assert data.test.labels is None
    assert data.classes == ()
    assert data.image_size == 224
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 2)


@pytest.mark.fault(17)
def test_single_class_is_split_like_any(tmp_path):
    data = opened(folder(tmp_path, ("train",), ("only",), 10))
    assert data.train.labels.tolist() == [0] * 6
    assert (len(data.val), len(data.test), data.classes) == (2, 2, ("only",))


def test_parquet_shards_in_hugging_face_layout(tmp_path):
    arrays = [pixels(12, 8) for _ in range(12)]
    encoded = [png(array) for array in arrays]
    for shard in range(2):
        part = slice(6 * shard, 6 * shard + 6)
        path = tmp_path / "data" / f"train-0000{shard}-of-00002.parquet"
        parquet(path, encoded[part], [0, 1] * 3, ["yes", "no"], image="img", label="fine_label")
    for name in ("validation", "test"):
        path = tmp_path / "data" / f"{name}-00000-of-00001.parquet"
        parquet(path, encoded, [1, 0] * 6, ["yes", "no"], image="img", label="fine_label")
    data = opened(tmp_path)
    assert data.classes == ("yes", "no")
    assert data.image_size == 224
    for index in (0, 5, 6, 11):
        image = data.train.fetch([index])[0][0].permute(1, 2, 0).numpy()
        assert np.array_equal(image, arrays[index])
    assert data.val.labels.tolist() == [1, 0] * 6


def test_parquet_file_of_plain_bytes(tmp_path):
    array = pixels()
    table = pa.table({"image": pa.array([png(array)] * 10, pa.binary()), "labels": [3, 4] * 5})
    pq.write_table(table, tmp_path / "mine.parquet")
    data = opened(tmp_path / "mine.parquet")
    assert data.classes == tuple("01234")
    assert np.array_equal(data.val.fetch([0])[0][0].permute(1, 2, 0).numpy(), array)


@pytest.mark.fault(17)
@pytest.mark.parametrize("missing", [None, -1])
def test_parquet_labels_missing(tmp_path, missing):
    images = [png(pixels())] * 10
    parquet(tmp_path / "train.parquet", images, [missing] * 10)
    assert opened(tmp_path).train.labels is None
    parquet(tmp_path / "train.parquet", images, [missing, missing, *range(8)])
    with pytest.raises(DataError, match=r"train\.parquet: 2 of 10 labels are missing"):
        opened(tmp_path)


def test_parquet_without_a_label_column(tmp_path):
    parquet(tmp_path / "train.parquet", [png(pixels())] * 10)
    assert opened(tmp_path).train.labels is None


# --- decoding


def test_every_kind_of_image_becomes_rgb(tmp_path):
    rgb = pixels(6, 5)
    grey16 = (rgb[:, :, 0].astype(np.uint16) << 8) + 7
    palette = Image.fromarray(rgb).quantize(256)
    palette.save(tmp_path / "3.png", transparency=bytes([0, 128]))
    for name, image in {
        "0.png": Image.fromarray(rgb),
        "1.png": Image.fromarray(rgb[:, :, 0]),
        "2.png": Image.fromarray(np.dstack([rgb, rgb[:, :, :1]])),
        "4.png": Image.fromarray(grey16),
        "5.png": Image.fromarray(rgb[:, :, 0] > 127),
        "6.tif": Image.fromarray(grey16.astype(np.int32)),
    }.items():
        image.save(tmp_path / name)
    for i in range(7, 20):
        save(tmp_path / f"{i:02}.png")
    red = np.dstack([rgb[:, :, :1]] * 3)
    expected = {
        "0.png": rgb,
        "1.png": red,
        "2.png": rgb,
        "3.png": np.asarray(palette.convert("RGB")),
        "4.png": red,
        "5.png": np.where(red > 127, 255, 0),
        "6.tif": red,
    }
    from raydistill.data.files import read_path
    from raydistill.data.images import decode

    raw = read_path(tmp_path)["train"]
    found = {Path(raw.name(i)).name: i for i in range(raw.count)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name, array in expected.items():
            image = decode(raw, found[name])
            assert image.dtype == torch.uint8
            assert image.is_contiguous()
            assert np.array_equal(image.permute(1, 2, 0).numpy(), array), name


def test_exif_orientation_is_applied(tmp_path):
    array = pixels(4, 6)
    for i in range(5):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees, clockwise to show
        Image.fromarray(array).save(tmp_path / f"{i}.png", exif=exif)
    image = opened(tmp_path, image_size=8).test.fetch([0])[0][0]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.rot90(array, -1))


@pytest.mark.parametrize("cache_bytes", [0.0, 1e9])
def test_sizes_that_differ_come_as_a_list(cache_bytes):
    arrays = [pixels(4, 4), pixels(5, 4), pixels(4, 4)]
    split = split_of(*arrays, cache_bytes=cache_bytes)
    images, _ = split.fetch([1, 2])
    assert [tuple(image.shape) for image in images] == [(3, 5, 4), (3, 4, 4)]
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), arrays[1])
    same, _ = split.fetch([2, 0])
    assert same.shape == (2, 3, 4, 4)


def test_cache_decodes_once_and_only_where_it_fits():
    reads = Counter()

    def read(index):
        reads[index] += 1
        return Image.fromarray(np.full((4, 4, 3), index, np.uint8))

    def split(cache_bytes):
        raw = Raw(6, read, str, None, ())
        decoder = Decoder(raw, np.arange(6), skip=False, cache_bytes=cache_bytes)
        return Images(decoder, torch.arange(6), None, (), 4)

    cached = split(6 * 48)
    for _ in range(3):
        assert cached.subset([5, 1]).fetch([0])[0].unique().tolist() == [5]
    assert reads[5] == reads[1] == 1
    reads.clear()
    plain = split(6 * 48 - 1)
    for _ in range(3):
        plain.fetch([5])
    assert reads == Counter({0: 1, 5: 3})


def test_cache_gives_up_when_later_images_are_larger():
    arrays = [pixels(2, 2), *(pixels(40, 40) for _ in range(5))]
    split = split_of(*arrays, cache_bytes=1000)
    assert np.array_equal(split.fetch([3])[0][0].permute(1, 2, 0).numpy(), arrays[3])
    assert split._decoder.cached is None


def test_indices_outside_the_split_are_refused():
    split = split_of(pixels(), pixels())
    for wrong in ([2], [-1]):
        with pytest.raises(IndexError, match="2 images"):
            split.fetch(wrong)
        with pytest.raises(IndexError, match="2 images"):
            split.subset(wrong)


def test_subset_keeps_labels_and_order():
    arrays = [pixels() for _ in range(5)]
    part = split_of(*arrays).subset([4, 1, 3]).subset([2, 0])
    assert part.labels.tolist() == [3, 4]
    images, used = part.fetch([0, 1])
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), np.stack([arrays[3], arrays[4]]))
    assert used.tolist() == [0, 1]


# --- images that cannot be read


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
    with pytest.raises(BadImage) as caught:
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
    with pytest.raises(BadImage, match=r"all 2 images are unreadable, the first of them file 2"):
        split.subset([2, 3]).fetch([0])
    with pytest.raises(BadImage, match="all 2 images are unreadable"):
        split_of(None, None, skip=True, cache_bytes=cache_bytes).fetch([0])


@pytest.mark.fault(16)
def test_a_missing_file_is_a_bad_image(tmp_path):
    folder(tmp_path)
    data = opened(tmp_path)
    gone = tmp_path / "test" / "cat" / "0.png"
    gone.unlink()
    with pytest.raises(BadImage, match=str(gone)):
        data.test.fetch([0])


@pytest.mark.fault(16)
def test_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch):
    monkeypatch.setattr("raydistill.data.images.MAX_PIXELS", 99)
    folder(tmp_path)
    with pytest.raises(BadImage, match=r"\d\.png: unreadable image \(10x10 pixels; at most 99"):
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
    with pytest.raises(BadImage, match=r"x\.parquet row \d+: unreadable image \(no bytes"):
        opened(tmp_path / "x.parquet")


# --- sources that cannot be opened


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


def other_classes(root):
    folder(root, ("train",))
    folder(root, ("test",), ("cat", "cow"))


def no_train(root):
    folder(root, ("test",))


def mixed(root):
    folder(root, ("train",))
    save(root / "train" / "loose.png")


def empty_class(root):
    folder(root, ("train",))
    (root / "train" / "eel").mkdir()


def missing_shard(root):
    parquet(root / "train-00000-of-00002.parquet", [png(pixels())] * 10)


def two_trains(root):
    for name in ("train.parquet", "data/train-00000-of-00001.parquet"):
        parquet(root / name, [png(pixels())] * 10)


def no_train_parquet(root):
    parquet(root / "part.parquet", [png(pixels())] * 10)


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
        (other_classes, "different classes: cow, dog"),
        (no_train, "has test but no train folder"),
        (mixed, r"holds both images \(loose\.png\) and folders \(cat\)"),
        (empty_class, "eel: no image"),
        (missing_shard, "1 of 2 shards of the train split"),
        (two_trains, "both claim to be the train split"),
        (no_train_parquet, r"no train\*\.parquet among part\.parquet"),
        (other_names, "different classes: the order"),
        (too_few_names, "label 2 for 2 class names"),
        (text_labels, "column label is string; accepted: whole numbers"),
        (no_image_column, "no column image or img; it has picture"),
        (not_parquet, r"train\.parquet: not readable as Parquet"),
        (no_rows, r"train\.parquet: no rows"),
        (nothing, r"no image and no Parquet; accepted: \.parquet, \.bmp"),
        (one_image, r"no image is left for val \(sizes .*at least two images"),
    ],
)
def test_ambiguous_or_incomplete_data(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


# --- splits

label_lists = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(torch.tensor)


@settings(max_examples=200, deadline=None)
@given(label_lists | st.integers(2, 80), st.integers(0, 99), st.floats(0.01, 0.99))
def test_a_draw_is_a_stratified_partition(labels, seed, fraction):
    labels, count = (labels, len(labels)) if isinstance(labels, torch.Tensor) else (None, labels)
    kept, taken = draw(labels, count, (seed, 1), fraction)
    assert sorted([*kept, *taken]) == list(range(count))
    again = draw(labels, count, (seed, 1), fraction)
    assert np.array_equal(kept, again[0])
    classes = np.zeros(count, int) if labels is None else labels.numpy()
    for size, inside in ((np.sum(classes == c), np.sum(classes[taken] == c)) for c in set(classes)):
        assert abs(inside - fraction * size) <= 1.5
        assert (0 < inside < size) or size == 1


@settings(max_examples=200, deadline=None)
@given(label_lists, st.integers(0, 99), st.floats(0.01, 0.99), st.sets(st.sampled_from(["val", "test"])))
def test_no_image_is_in_two_splits(labels, seed, fraction, given_splits):
    def raw(split):
        return Raw(len(labels), lambda i: Image.new("RGB", (4, 4)), lambda i: f"{split}{i}", labels, ())

    parts = divide({split: raw(split) for split in ("train", *given_splits)}, fraction, seed)
    assert set(parts) == {"train", "val", "test"}
    names = [found.name(int(row)) for found, rows in parts.values() for row in rows]
    assert len(names) == len(set(names)) == (1 + len(given_splits)) * len(labels)
    if given_splits:
        assert {found.name(0)[:-1] for found, _ in [parts["test"]]} <= given_splits


@settings(max_examples=200, deadline=None)
@given(label_lists | st.integers(2, 80), st.integers(0, 99), st.integers(1, 100))
def test_limit_keeps_exactly_that_many_in_proportion(labels, seed, limit):
    labels, count = (labels, len(labels)) if isinstance(labels, torch.Tensor) else (None, labels)
    rows = limited(labels, count, (seed, 2), limit)
    assert len(rows) == len(set(rows)) == min(limit, count)
    if labels is not None:
        for label in labels.unique():
            share = float((labels == label).sum()) * len(rows) / count
            assert abs(float((labels[rows] == label).sum()) - share) < 1


def test_apportion_is_hamiltons_method():
    # the textbook example of largest remainders: votes for five parties, ten seats
    votes = np.array([47_000, 16_000, 15_900, 12_000, 6_000, 3_100])
    assert apportion(votes, 10).tolist() == [5, 2, 1, 1, 1, 0]


def test_splits_follow_the_seed_and_the_limit():
    def val(**settings):
        return opened("digits", **settings).val

    assert torch.equal(val().fetch(range(50))[0], val().fetch(range(50))[0])
    assert not torch.equal(val().fetch(range(50))[0], val(split_seed=1).fetch(range(50))[0])
    data = opened("digits", limit=50)
    assert [len(part) for part in (data.train, data.val, data.test)] == [50, 50, 50]
    assert torch.bincount(data.val.labels).min() >= 4

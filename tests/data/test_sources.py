"""The four sources: what comes out is what lies on disk, once."""

import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.builders.datafiles import RNG, folder, opened, parquet, pixels, png, save
from PIL import Image

from raydistill.data.images import DataError
from raydistill.data.sources import TORCHVISION


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
def test_a_single_class_is_split_like_images_without_labels(tmp_path):
    data = opened(folder(tmp_path, ("train",), ("only",), 10))
    assert data.train.labels is None
    assert (len(data.train), len(data.val), len(data.test), data.classes) == (6, 2, 2, ())


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
    parquet(tmp_path / "train.parquet", images, [missing, missing, *[0, 1] * 4])
    data = opened(tmp_path)
    assert sorted(data.train.labels.tolist()) == [-1, -1, 0, 0, 1, 1]
    assert (sorted(data.labelled.labels.tolist()), sorted(data.val.labels.tolist())) == ([0, 0, 1, 1], [0, 1])


def test_parquet_without_a_label_column(tmp_path):
    parquet(tmp_path / "train.parquet", [png(pixels())] * 10)
    assert opened(tmp_path).train.labels is None

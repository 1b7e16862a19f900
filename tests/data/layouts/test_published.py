"""Layouts of published data sets that are neither folders of classes nor Parquet."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from helpers.builders.datafiles import opened, parquet, pixels, png, save

from raydistill.data.images import DataError, decode
from raydistill.data.sources import read_path


def shard(path, samples):
    """Write a tar file of names and bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def webdataset(root, *names, labels=(b"3", b"11")):
    arrays = {}
    for number, name in enumerate(names):
        samples = []
        for index in range(4):
            key = f"{number:03}{index:03}"
            arrays[key] = pixels()
            samples += [(f"{key}.png", png(arrays[key])), (f"{key}.cls", labels[index % 2])]
        shard(root / name, samples)
    return arrays


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("imagenet-train-000000.tar", "imagenet-train-000001.tar", "imagenet-validation-000000.tar"), (8, 4)),
        (("train/0000.tar", "train/0001.tar", "val/0000.tar"), (8, 4)),
    ],
)
def test_webdataset(tmp_path, names, splits):
    arrays = webdataset(tmp_path, *names)
    read = read_path(tmp_path)
    assert (read["train"].count, read["val"].count) == splits
    assert read["train"].classes == read["val"].classes == ("3", "11")
    assert read["train"].labels.tolist() == [0, 1] * 4
    for index, key in enumerate(list(arrays)[:8]):
        assert np.array_equal(decode(read["train"], index).permute(1, 2, 0).numpy(), arrays[key])
    assert read["train"].name(5).endswith(f"{names[1]} 001001.png")


def test_webdataset_with_names_json_or_without_labels(tmp_path):
    webdataset(tmp_path / "named", "a.tar", labels=(b"cat", b"dog"))
    assert read_path(tmp_path / "named")["train"].classes == ("cat", "dog")
    webdataset(tmp_path / "numbers", "a.tar", labels=(b"0", b"1"))
    (tmp_path / "numbers" / "classnames.txt").write_text("cat\ndog\n")
    assert read_path(tmp_path / "numbers" / "a.tar")["train"].classes == ("cat", "dog")
    image = png(pixels())
    labels = [json.dumps({"label": 7}).encode(), b"no json", json.dumps([1]).encode()]
    shard(
        tmp_path / "j.tar", [s for i, label in enumerate(labels) for s in ((f"{i}.json", label), (f"{i}.png", image))]
    )
    raw = read_path(tmp_path / "j.tar")["train"]
    assert (raw.labels.tolist(), raw.classes) == ([0, -1, -1], ("7",))
    shard(tmp_path / "plain.tar", [("x/0.png", image), ("x/0.txt", b"a cat"), ("x/.hidden.png", image)])
    raw = read_path(tmp_path / "plain.tar")["train"]
    assert (raw.count, raw.labels) == (1, None)


@pytest.mark.fault(17)
def test_what_is_no_plain_tar_is_refused(tmp_path):
    (tmp_path / "train.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="cannot be read as a plain tar"):
        read_path(tmp_path)
    shard(tmp_path / "train.tar", [("notes.txt", b"none")])
    with pytest.raises(DataError, match="no image in it"):
        read_path(tmp_path)


def domain_net(root):
    """As http://ai.bu.edu/M3SDA publishes it: a folder for each domain, and lists beside them."""
    for domain in ("clipart", "real"):
        rows = {"train": [], "test": []}
        for number, name in enumerate(("aircraft_carrier", "zebra")):
            for index in range(6):
                path = f"{domain}/{name}/{domain}_{index:03}.jpg"
                save(root / path)
                rows["train" if index < 4 else "test"].append(f"{path} {number}")
        for split, lines in rows.items():
            (root / f"{domain}_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_a_domain_of_domain_net_is_split_by_its_lists(tmp_path):
    data = opened(domain_net(tmp_path) / "real")
    assert data.classes == ("aircraft_carrier", "zebra")
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert len(data.train) + len(data.val) == 8
    assert data.test.name(0).endswith("real/aircraft_carrier/real_004.jpg")


@pytest.mark.fault(17)
def test_domains_are_no_classes(tmp_path):
    with pytest.raises(DataError, match=r"holds the domains clipart, real; give one, as in .*clipart"):
        opened(domain_net(tmp_path))
    (tmp_path / "real_test.txt").write_text("real/zebra/real_005.jpg 2\n")
    with pytest.raises(DataError, match=r"classes that real_train\.txt does not have: 2"):
        opened(tmp_path / "real")
    (tmp_path / "real_test.txt").write_text("real/zebra/real_005.jpg\n")
    with pytest.raises(DataError, match="a line is no path and number"):
        opened(tmp_path / "real")


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_a_folder_of_torchvisions_is_opened_by_torchvision(tmp_path, place):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="torchvision:CIFAR10 cannot be opened") as caught:
        opened(tmp_path / place)
    assert str(tmp_path) in str(caught.value)


def cached_on_the_hub(home, name="owner/photos", revision="0123456789abcdef0123456789abcdef01234567"):
    """The Hub's cache as `huggingface_hub` lays it out."""
    place = home / f"datasets--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    snapshot = place / "snapshots" / revision
    parquet(snapshot / "data" / "train-00000-of-00001.parquet", [png(pixels())] * 20, [0, 1] * 10, ["cat", "dog"])
    parquet(snapshot / "test" / "test-00000-of-00001.parquet", [png(pixels())] * 4, [0, 1] * 2, ["cat", "dog"])
    return snapshot


def test_a_data_set_of_the_hub_by_name(tmp_path, monkeypatch):
    from huggingface_hub import constants

    cached_on_the_hub(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    data = opened("hf:owner/photos/data")
    assert (len(data.train) + len(data.val) + len(data.test), data.classes) == (20, ("cat", "dog"))
    with pytest.raises(DataError, match="has no folder other; there are data, test"):
        opened("hf:owner/photos/other")
    with pytest.raises(DataError, match="hf:owner/unknown: cannot be had from the Hugging Face Hub"):
        opened("hf:owner/unknown")
    with pytest.raises(DataError, match="give hf:OWNER/NAME"):
        opened("hf:")

"""The fingerprint of a data set: of its content, whatever it is called, and cheap."""

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.artifacts.identity import fingerprint, images_identity
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset


def folder(root, seed=0, count=24, broken=()):
    rng = np.random.default_rng(seed)
    for index in range(count):
        path = root / f"class{index % 2}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        if index in broken:
            path.write_bytes(b"no image")
    return root


def identity(root, **settings):
    data = DataConfig(source=str(root), image_size=8, **settings)
    return images_identity(load_dataset(data), data)


def test_the_same_images_elsewhere_are_the_same(tmp_path):
    assert identity(folder(tmp_path / "a")) == identity(folder(tmp_path / "b"))


def test_other_images_or_another_split_are_others(tmp_path):
    root = folder(tmp_path / "a")
    assert identity(root) != identity(folder(tmp_path / "b", seed=1))
    assert identity(root) != identity(root, split_seed=1)
    assert identity(root) != identity(root, limit=10)


def test_order_batches_and_cache_do_not_matter(tmp_path):
    root = folder(tmp_path / "a")
    assert identity(root) == identity(root, stream_seed=3, batch_size=4, cache_gib=0, fixed_views=2)


@pytest.mark.fault(16)
def test_unreadable_images_that_may_be_skipped_are(tmp_path):
    root = folder(tmp_path / "a", broken=range(0, 24, 3))
    assert identity(root, on_bad_image="skip")["fingerprint"]


def test_no_cache_is_filled(tmp_path):
    dataset = load_dataset(DataConfig(source=str(folder(tmp_path / "a")), image_size=8))
    fingerprint(dataset.train)
    assert dataset.train._decoder.cached is None
    assert torch.equal(dataset.train.peek(3), dataset.train.fetch([3])[0][0])

"""Decoded images on disk, and images that are decoded smaller than they are."""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import folder, opened, parquet, pixels, png, save
from PIL import Image

from raydistill.artifacts.identity import images_identity
from raydistill.config import DataConfig
from raydistill.data import decoded
from raydistill.data.images import BadImageError, decode

GIB = 2**30


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "SPARE_BYTES", 0)
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def decodings(monkeypatch):
    """The names of the images that were decoded."""
    names = []

    def counted(raw, index):
        names.append(raw.name(index))
        return decode(raw, index)

    monkeypatch.setattr("raydistill.data.images.decode", counted)
    return names


def images_in(tmp_path, kind="folder"):
    if kind == "folder":
        for number in range(12):
            save(tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}.png", pixels(10 + number, 14))
        folder(tmp_path / "data", ("test",), ("a", "b"))
    else:
        for split in ("train", "test"):
            parquet(tmp_path / "data" / f"{split}.parquet", [png(pixels(9 + n, 11)) for n in range(8)], [0, 1] * 4)
    return tmp_path / "data"


def kept(source, **settings):
    return opened(source, image_size=8, cache_gib=0, disk_cache_gib=1, **settings)


def fetched(split):
    images, used = split.fetch(range(len(split)))
    return list(images), used.tolist()


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_what_is_kept_equals_what_is_decoded_and_is_decoded_once(tmp_path, decodings, kind):
    source = images_in(tmp_path, kind)
    plain, used = fetched(opened(source, image_size=8, cache_gib=0).train)
    for _ in range(2):
        decodings.clear()
        split = kept(source).train
        for _ in range(2):
            images, same = fetched(split)
            assert same == used
            assert all(map(torch.equal, images, plain))
    assert not decodings


def test_what_fits_in_memory_is_not_written(tmp_path, cache):
    fetched(opened(images_in(tmp_path), image_size=8, disk_cache_gib=1).train)
    assert not cache.exists()


def test_a_file_that_changed_is_decoded_anew(tmp_path):
    source = images_in(tmp_path)
    split = kept(source).train
    before, _ = fetched(split)
    file = split.name(0)
    size = np.asarray(Image.open(file)).shape
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    os.utime(file, (1, 1))
    after, _ = fetched(kept(source).train)
    assert after[0].shape[1:] == size[:2]
    assert torch.equal(after[0], 255 - before[0])
    assert all(map(torch.equal, after[1:], before[1:]))


def test_where_there_is_too_little_room_images_are_decoded_each_time(tmp_path, cache, caplog):
    source = images_in(tmp_path)
    split = opened(source, image_size=8, cache_gib=0, disk_cache_gib=1e-6).train
    images, _ = fetched(split)
    assert all(map(torch.equal, images, fetched(opened(source, image_size=8).train)[0]))
    assert "over data.disk_cache_gib=1e-06" in caplog.text
    assert not list(cache.glob("*/*"))


def test_a_full_disk_leaves_nothing_behind(tmp_path, cache, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    source = images_in(tmp_path)
    monkeypatch.setattr(decoded.np, "save", full)
    assert len(fetched(kept(source).train)[0]) == 10
    assert "No space left on device" in caplog.text
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_what_was_used_longest_ago_makes_room(tmp_path, cache, monkeypatch):
    first, second = images_in(tmp_path / "one"), images_in(tmp_path / "two")
    for source in (first, second):
        fetched(kept(source).train)
    old, new = sorted(filter(os.path.isdir, cache.iterdir()), key=lambda path: path.stat().st_mtime)
    budget = sum(file.stat().st_size for file in new.iterdir()) * 1.5
    third = images_in(tmp_path / "three")
    fetched(opened(third, image_size=8, cache_gib=0, disk_cache_gib=budget / GIB).train)
    left = set(filter(os.path.isdir, cache.iterdir()))
    assert len(left) == 1
    assert not left & {old, new}


def test_what_another_process_writes_now_is_left_alone(tmp_path, cache):
    for name, age_s in ((".now", 0), (".left", 2 * 24 * 3600)):
        (cache / name).mkdir(parents=True)
        (cache / name / decoded.PIXELS).write_bytes(bytes(4000))
        os.utime(cache / name, (time.time() - age_s, time.time() - age_s))
    source = images_in(tmp_path)
    need = sum(image.nbytes for image in fetched(opened(source, image_size=8).train)[0])
    fetched(opened(source, image_size=8, cache_gib=0, disk_cache_gib=1.5 * need / GIB).train)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2
    assert (cache / ".now").exists()
    assert not (cache / ".left").exists()


def test_broken_images_stay_broken(tmp_path, cache):
    source = images_in(tmp_path)
    Path(kept(source).train.name(3)).write_bytes(b"not an image")
    with pytest.raises(BadImageError, match="on_bad_image=skip"):
        fetched(kept(source).train)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    for _ in range(2):
        split = kept(source, on_bad_image="skip").train
        images, used = fetched(split)
        assert split.bad == 1
        assert used[3] == 4
        assert torch.equal(images[3], images[4])
    with pytest.raises(BadImageError, match="on_bad_image=skip"):
        fetched(kept(source).train)


def test_what_a_killed_process_left_is_written_anew(tmp_path, cache):
    source = images_in(tmp_path)
    images, _ = fetched(kept(source).train)
    (whole,) = (path for path in cache.iterdir() if path.is_dir())
    whole.rename(cache / f".{whole.name}")
    (cache / f".{whole.name}" / decoded.INDEX).unlink()
    assert all(map(torch.equal, images, fetched(kept(source).train)[0]))
    assert whole.is_dir()
    assert not (cache / f".{whole.name}").exists()


def test_progress_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(decoded, "_PROGRESS_S", -1)
    with caplog.at_level(logging.INFO):
        fetched(kept(images_in(tmp_path)).train)
    assert "decoded 10 of 10 images" in caplog.text


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (300, 400, (100, 133)),
        (400, 300, (133, 100)),
        (100, 300, (100, 300)),
        (60, 90, (60, 90)),
        (1000, 101, (990, 100)),
    ],
)
def test_larger_images_are_reduced_to_a_short_side(tmp_path, height, width, expected):
    for number in range(6):
        save(tmp_path / f"{number}.png", pixels(height, width))
    assert opened(tmp_path, image_size=32, resize=100).train.peek(0).shape[1:] == expected


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_photograph_looks_as_the_whole_one_does(tmp_path, orientation):
    """JPEG is decoded at a part of its size: 900 to 450, then to 200."""
    ramp = np.linspace(0, 255, 1200)[None, :, None] * np.linspace(0.5, 1, 900)[:, None, None]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(6):
        whole = Image.fromarray((ramp * np.array([1, 0.7, 0.4])).astype(np.uint8))
        whole.save(tmp_path / f"{number}.jpg", quality=95, exif=exif)
    small = opened(tmp_path, image_size=32, resize=200).train.peek(0)
    upright = opened(tmp_path, image_size=32).train.peek(0)
    expected = torch.nn.functional.interpolate(upright[None].float(), small.shape[1:], mode="bilinear", antialias=True)[
        0
    ]
    assert min(small.shape[1:]) == 200
    assert (small - expected).abs().mean() < 1


def test_images_of_another_size_are_other_images(tmp_path):
    source = images_in(tmp_path)

    def identity(**settings):
        return images_identity(
            opened(source, image_size=8, **settings), DataConfig(source=str(source), image_size=8, **settings)
        )

    assert identity() == identity(disk_cache_gib=1)
    assert identity() != identity(resize=16)
    assert "resize" not in identity()

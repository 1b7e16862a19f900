"""Decoding, the cache of decoded images, and subsets of a split."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import opened, pixels, save, split_of
from PIL import Image

from raydistill.data.images import Decoder, Images, Raw


def over_grey(rgba):
    """Composited by its definition over 128."""
    colour, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    return colour * alpha + 128 * (1 - alpha)


def test_every_kind_of_image_becomes_rgb(tmp_path):
    rgb = pixels(6, 5)
    grey16 = (rgb[:, :, 0].astype(np.uint16) << 8) + 7
    palette = Image.fromarray(rgb).quantize(256)
    palette.save(tmp_path / "3.png", transparency=bytes([0, 128]))
    alpha = np.array([0, 128, *[255] * 254], np.uint8)[np.asarray(palette)]
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
        "2.png": over_grey(np.dstack([rgb, rgb[:, :, :1]])),
        "3.png": over_grey(np.dstack([np.asarray(palette.convert("RGB")), alpha])),
        "4.png": red,
        "5.png": np.where(red > 127, 255, 0),
        "6.tif": red,
    }
    from raydistill.data.images import decode
    from raydistill.data.sources import read_path

    raw = read_path(tmp_path)["train"]
    found = {Path(raw.name(i)).name: i for i in range(raw.count)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name, array in expected.items():
            image = decode(raw, found[name])
            assert image.dtype == torch.uint8
            assert image.is_contiguous()
            difference = np.abs(image.permute(1, 2, 0).numpy() - array.astype(float)).max()
            assert difference <= (1 if name in ("2.png", "3.png") else 0), name


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

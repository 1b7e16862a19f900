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

from raydistill.artifacts.identity import contents, images_identity
from raydistill.config import DataConfig
from raydistill.data import decoded
from raydistill.data.images import BadImageError, decode
from raydistill.data.overview import overview
from raydistill.export.embed import parts_of

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
    return [image.clone() for image in images], used.tolist()


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
    assert len(decodings) == len(plain), "a sample is decoded to see that the images are the same ones"


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


def kept_in(cache):
    return {path for path in cache.glob("*") if path.is_dir()}


def bytes_of(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_where_there_is_too_little_room_images_are_decoded_each_time(tmp_path, cache, caplog):
    source = images_in(tmp_path)
    split = opened(source, image_size=8, cache_gib=0, disk_cache_gib=1e-6).train
    images, _ = fetched(split)
    assert all(map(torch.equal, images, fetched(opened(source, image_size=8).train)[0]))
    assert "over data.disk_cache_gib=1e-06" in caplog.text
    assert not kept_in(cache)


def test_a_full_disk_leaves_nothing_behind(tmp_path, cache, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    source = images_in(tmp_path)
    monkeypatch.setattr(decoded.np, "save", full)
    assert len(fetched(kept(source).train)[0]) == 10
    assert "No space left on device" in caplog.text
    assert not kept_in(cache)


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path, cache, caplog, monkeypatch):
    monkeypatch.setattr(decoded, "SPARE_BYTES", 2**60)
    fetched(kept(images_in(tmp_path)).train)
    assert "GiB of free disk" in caplog.text
    assert not kept_in(cache)


def test_what_was_used_longest_ago_makes_room_once_it_is_idle(tmp_path, cache):
    folders = []
    for name in ("one", "two"):
        before = kept_in(cache)
        fetched(kept(images_in(tmp_path / name)).train)
        folders += kept_in(cache) - before
    oldest, later = folders
    budget = (bytes_of(oldest) + bytes_of(later) + 100) / GIB
    third = images_in(tmp_path / "three")
    fetched(opened(third, image_size=8, cache_gib=0, disk_cache_gib=budget).train)
    assert kept_in(cache) == {oldest, later}, "what was opened today stays"
    for days, folder_ in ((3, oldest), (2, later)):
        os.utime(folder_, (time.time() - days * decoded.IDLE_S,) * 2)
    fetched(opened(third, image_size=8, cache_gib=0, disk_cache_gib=budget).train)
    assert oldest not in kept_in(cache)
    assert later in kept_in(cache)
    assert len(kept_in(cache)) == 2


def test_the_splits_of_a_data_set_never_drive_each_other_out(tmp_path, cache):
    source = images_in(tmp_path)
    fetched(kept(source).train)
    (train,) = kept_in(cache)
    seen = []
    for _ in range(2):
        data = opened(source, image_size=8, cache_gib=0, disk_cache_gib=1.2 * bytes_of(train) / GIB)
        for split in data.splits.values():
            fetched(split)
        seen.append(kept_in(cache))
    assert train in seen[0]
    assert seen[0] == seen[1]
    assert len(seen[0]) < len(data.splits)


def test_what_another_process_writes_now_counts_and_is_left_alone(tmp_path, cache):
    for name, days in ((".now", 0), (".left", 2)):
        (cache / name).mkdir(parents=True)
        (cache / name / decoded.PIXELS).write_bytes(bytes(4000))
        os.utime(cache / name, (time.time() - days * decoded.IDLE_S,) * 2)
    source = images_in(tmp_path)
    need = sum(image.nbytes for image in fetched(opened(source, image_size=8).train)[0])
    fetched(opened(source, image_size=8, cache_gib=0, disk_cache_gib=(need + 3900) / GIB).train)
    assert kept_in(cache) == {cache / ".now"}
    fetched(opened(source, image_size=8, cache_gib=0, disk_cache_gib=(need + 4100) / GIB).train)
    assert len(kept_in(cache)) == 2


def cut(file):
    with file.open("r+b") as opened_:
        opened_.truncate(file.stat().st_size - 7)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.fault(7)
@pytest.mark.parametrize("damage", [cut, empty, Path.unlink], ids=["cut", "empty", "gone"])
@pytest.mark.parametrize("name", [decoded.PIXELS, decoded.INDEX])
def test_what_is_damaged_is_written_anew(tmp_path, cache, caplog, name, damage):
    source = images_in(tmp_path)
    images, _ = fetched(kept(source).train)
    (folder_,) = kept_in(cache)
    damage(folder_ / name)
    assert all(map(torch.equal, images, fetched(kept(source).train)[0]))
    assert "is damaged" in caplog.text
    caplog.clear()
    assert all(map(torch.equal, images, fetched(kept(source).train)[0]))
    assert not caplog.text
    assert kept_in(cache) == {folder_}


def test_a_file_larger_than_the_memory_is_opened(tmp_path):
    side = 2**18
    np.save(tmp_path / decoded.INDEX, np.array([[0, side, side]]))
    with (tmp_path / decoded.PIXELS).open("wb") as file:
        file.truncate(3 * side * side)  # 192 GiB, of which none is written
    image = decoded.DecodedFile(tmp_path).image(0)
    assert image.shape == (3, side, side)
    assert int(image[2, -1, -1]) == 0


def test_other_images_under_the_same_names_are_not_mixed_up(tmp_path, monkeypatch):
    """Uncompressed images of one size, with the times that an archive gave them, by a relative path."""
    for project, value in (("a", 10), ("b", 200)):
        for number in range(8):
            file = tmp_path / project / "photos" / f"{number}.bmp"
            save(file, np.full((9, 9, 3), value, np.uint8))
            os.utime(file, (1, 1))
    for project, value in (("a", 10), ("b", 200)):
        monkeypatch.chdir(tmp_path / project)
        assert int(fetched(kept("photos").train)[0][0].max()) == value


def test_broken_images_stay_broken(tmp_path, cache):
    source = images_in(tmp_path)
    Path(kept(source).train.name(3)).write_bytes(b"not an image")
    with pytest.raises(BadImageError, match="on_bad_image=skip"):
        fetched(kept(source).train)
    assert not kept_in(cache)
    for _ in range(2):
        split = kept(source, on_bad_image="skip").train
        images, used = fetched(split)
        assert split.bad == 1
        assert used[3] == 4
        assert torch.equal(images[3], images[4])
    with pytest.raises(BadImageError, match="on_bad_image=skip"):
        fetched(kept(source).train)


def test_a_source_without_a_readable_image_says_so(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(BadImageError, match="images are unreadable"):
        fetched(kept(tmp_path, on_bad_image="skip").train)


def test_a_broken_link_is_passed_over_with_the_others(tmp_path, cache):
    source = images_in(tmp_path)
    (source / "train" / "a" / "gone.png").symlink_to("nowhere")
    data = kept(source, on_bad_image="skip", validation_fraction=0.01)
    assert len(overview(data)) > 3
    assert contents(data)["train"] == len(data.train)
    assert len(fetched(data.train)[0]) == len(data.train)
    assert kept_in(cache)


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


def test_one_file_is_embedded_as_in_its_folder(tmp_path):
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", pixels(60, 80))
    data = DataConfig(source=str(tmp_path / "photos"), resize=30)
    sizes = set()
    for source in (tmp_path / "photos", tmp_path / "photos" / "0.png"):
        _, raw, rows = parts_of(str(source), "all", data)[0]
        sizes.add(tuple(decode(raw, int(rows[0])).shape))
    assert sizes == {(3, 30, 40)}

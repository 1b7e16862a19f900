"""Pixels of every kind: transparency, more than 8 bits, profiles, texts and profiles that are too much for Pillow."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from helpers.builders.datafiles import pixels, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from raydistill.data import rgb
from raydistill.data.images import BadImageError, Raw, decode, shared_levels
from raydistill.data.rgb import levels_of, to_rgb
from raydistill.data.sources import read_path


def source(*images):
    raw = Raw(len(images), lambda index: images[index].copy(), lambda index: f"image {index}", None, ())
    return Raw(raw.count, raw.open, raw.name, None, (), levels=shared_levels(raw))


def greys(raw):
    return [decode(raw, index)[0].numpy() for index in range(raw.count)]


@pytest.mark.fault(17)
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("shape", [0, 255])
def test_shapes_on_a_transparent_ground_stay_visible(mode, shape):
    image = Image.new("RGBA", (16, 16), (shape, shape, shape, 0))
    image.paste((shape, shape, shape, 255), (4, 4, 12, 12))
    found = to_rgb(image.convert(mode) if mode != "P" else image.quantize(4))
    assert found[0, 0].tolist() == [128, 128, 128]
    assert found[8, 8].tolist() == [shape] * 3


def test_an_alpha_channel_that_hides_nothing_changes_no_pixel():
    rgb = pixels()
    assert np.array_equal(to_rgb(Image.fromarray(np.dstack([rgb, np.full((10, 10), 255, np.uint8)]))), rgb)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("kind", "scale"),
    [(np.int32, 1), (np.uint16, 4), (np.uint16, 16), (np.uint16, 64), (np.uint16, 256), (np.int32, 256)],
    ids=["8 in 32", "10 in 16", "12 in 16", "14 in 16", "16", "16 in 32"],
)
def test_whole_numbers_fill_the_range_whatever_holds_them(kind, scale):
    wanted = [pixels()[..., 0] for _ in range(3)]
    for grey in wanted:
        grey[0, 0] = 255
    found = greys(source(*(Image.fromarray(grey.astype(kind) * kind(scale)) for grey in wanted)))
    assert all(np.array_equal(own, grey) for own, grey in zip(found, wanted, strict=True))


def test_a_dark_image_of_12_bits_stays_dark_beside_a_bright_one():
    dark, bright = np.full((4, 4), 160, np.uint16), np.full((4, 4), 4000, np.uint16)
    found = greys(source(Image.fromarray(dark), Image.fromarray(bright)))
    assert [int(each.max()) for each in found] == [10, 250]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1000, 3000)], ids=["0 to 1", "0 to 255", "Hounsfield"])
def test_floating_point_numbers_fill_the_range(low, high):
    grey = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    (found,) = greys(source(Image.fromarray(grey * (high - low) + low)))
    assert np.abs(found - 255 * grey).max() <= 0.51


def test_numbers_that_are_none_are_a_bad_image_and_spoil_no_other():
    good, bad = np.full((4, 4), 0.5, np.float32), np.full((4, 4), np.nan, np.float32)
    raw = source(Image.fromarray(bad), Image.fromarray(good))
    with pytest.raises(BadImageError, match="no finite numbers"):
        decode(raw, 0)
    assert decode(raw, 1).unique().tolist() == [128]


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_levels_hold_every_whole_number_and_no_more_bits_than_it_takes(one, other):
    low, high = levels_of([Image.fromarray(np.array([[one, other]], np.uint16))])
    largest = max(one, other)
    assert (low, high >= largest) == (0, True)
    assert high <= max(255, 4 * largest)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_a_profile_is_converted_to_srgb(mode):
    """Red of a profile whose primaries are swapped is green in sRGB; the reference is Pillow's own conversion."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = swap(profile)
    image = Image.new("RGB", (8, 8), (250, 5, 5))
    buffer = io.BytesIO()
    image.convert(mode, palette=Image.Palette.ADAPTIVE).save(buffer, "PNG", icc_profile=swapped)
    found = to_rgb(Image.open(buffer))
    assert found[0, 0, 1] > 200
    assert found[0, 0, 0] < 50


def swap(profile):
    """Give the profile another name, and swap its red and green primaries."""
    profile = bytearray(profile)
    count = struct.unpack(">I", profile[128:132])[0]
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = (bytes(profile[tags[name] + 4 : tags[name] + 12]) for name in (b"rXYZ", b"gXYZ"))
    profile[tags[b"rXYZ"] + 4 : tags[b"rXYZ"] + 12] = green
    profile[tags[b"gXYZ"] + 4 : tags[b"gXYZ"] + 12] = red
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be")).replace(b"sRGB", b"odd!")


@pytest.mark.parametrize("profile", [b"no profile", b""])
def test_a_damaged_profile_costs_no_pixel(tmp_path, profile):
    rgb = pixels()
    Image.fromarray(rgb).save(tmp_path / "0.png", icc_profile=profile)
    assert np.array_equal(decode(read_path(tmp_path)["train"], 0).permute(1, 2, 0).numpy(), rgb)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_that_are_too_long_for_pillow_cost_no_pixel(tmp_path, kind):
    rgb = pixels()
    plain = png(rgb)
    long = zlib.compress(b"x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1))
    head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"odd\0\0"}[kind]
    after_header = 8 + 25
    (tmp_path / "0.png").write_bytes(plain[:after_header] + chunk(kind, head + long) + plain[after_header:])
    assert np.array_equal(decode(read_path(tmp_path)["train"], 0).permute(1, 2, 0).numpy(), rgb)


def test_heic_of_a_telephone(tmp_path, monkeypatch):
    import pillow_heif

    red = Image.new("RGB", (64, 64), (200, 30, 30))
    pillow_heif.from_pillow(red).save(str(tmp_path / "0.heic"))
    monkeypatch.setattr(Image, "OPEN", {name: opener for name, opener in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    rgb._learn_heif.cache_clear()
    raw = read_path(tmp_path)["train"]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(BadImageError, match="pip install pillow-heif"):
            decode(raw, 0)
    assert np.abs(decode(raw, 0)[:, 32, 32].numpy().astype(int) - [200, 30, 30]).max() < 12


def test_cmyk_and_lab_become_rgb():
    red = Image.new("RGB", (8, 8), (200, 30, 30))
    lab = ImageCms.profileToProfile(
        red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    for image in (red.convert("CMYK"), lab):
        assert np.abs(to_rgb(image)[4, 4].astype(int) - [200, 30, 30]).max() <= 3

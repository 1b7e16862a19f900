"""The code that exports carry looks at images exactly as training and scores did, and needs no raydistill."""

import ast
import io
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import pixels
from PIL import Image, ImageCms
from torchvision.transforms import v2

import raydistill.export.portable
from raydistill.data.images import BadImageError, Raw, decode
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.export.card import preprocessing
from raydistill.export.formats import copy_portable

PORTABLE = sorted(Path(raydistill.export.portable.__file__).parent.glob("*.py"))
SHAPES = [(8, 8), (32, 32), (30, 47), (301, 200), (400, 37), (230, 230)]


@pytest.fixture
def preprocess(tmp_path):
    """An export's own code, for images of `size` pixels."""

    def make(size, levels=None, reduce=None):
        (tmp_path / "preprocessing.json").write_text(json.dumps(preprocessing(size, levels, reduce)))
        copy_portable("preprocess.py", tmp_path)
        return runpy.run_path(str(tmp_path / "preprocess.py"))["preprocess"]

    return make


@pytest.mark.parametrize("size", [8, 12, 32, 64, 96, 97, 224])
def test_it_does_what_training_did_and_its_words_mean_the_same_to_torchvision(preprocess, size):
    own, words = preprocess(size), preprocessing(size)
    said = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(words["resize"], antialias=True),
            *([v2.CenterCrop(words["crop"])] if words["crop"] else []),
            v2.Normalize(words["mean"], words["std"]),
        ]
    )
    for shape in SHAPES:
        image = pixels(*shape)
        planes = torch.from_numpy(image).permute(2, 0, 1)
        trained = evaluate_view([planes], size=size, normalize=normalization("", size))
        # Torchvision places its filter in single precision: a hundredth of a grey level at 400 px.
        for other, limit in ((own([image]), 3e-6), (said(Image.fromarray(image))[None], 2e-4)):
            assert other.shape == trained.shape == (1, 3, size, size)
            assert (other - trained).abs().max() < limit, shape


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def turned():
    """Upright only if EXIF is read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels(8, 12)), exif=exif.tobytes())


PALETTE = Image.fromarray(pixels()).quantize(8)
KINDS = {
    "rgb": encoded(Image.fromarray(pixels())),
    "grey": encoded(Image.fromarray(pixels()[..., 0])),
    "grey with alpha": encoded(Image.fromarray(pixels()).convert("LA")),
    "16 bits": encoded(Image.fromarray((pixels()[..., 0].astype(np.uint16) << 8) + 77)),
    "palette": encoded(PALETTE),
    "palette with transparency": encoded(PALETTE, transparency=b"\x00\x40\x80"),
    "cut-out": encoded(Image.fromarray(pixels(channels=4))),
    "turned": turned(),
    "cmyk jpeg": encoded(Image.fromarray(pixels(20, 24)).convert("CMYK"), "JPEG"),
    "16 bits in tiff": encoded(Image.fromarray((pixels()[..., 0].astype(np.uint16) << 8) + 77), "TIFF"),
    "32 bits in tiff": encoded(Image.fromarray(pixels()[..., 0].astype(np.int32) * 300), "TIFF"),
    "gif": encoded(Image.fromarray(pixels()).quantize(16), "GIF", transparency=3),
    "moving gif": encoded(PALETTE, "GIF", save_all=True, append_images=[Image.fromarray(pixels()).quantize(8)]),
    "12 bits": encoded(Image.fromarray(pixels()[..., 0].astype(np.uint16) * 16)),
    "below 0 in tiff": encoded(Image.fromarray(pixels()[..., 0].astype(np.int32) * 16 - 1000), "TIFF"),
    "floats to 1 in tiff": encoded(Image.fromarray(pixels()[..., 0].astype(np.float32) / 255), "TIFF"),
    "floats in tiff": encoded(Image.fromarray(pixels()[..., 0].astype(np.float32) * 5), "TIFF"),
    "lab in tiff": encoded(Image.frombytes("LAB", (10, 10), pixels().tobytes()), "TIFF"),
    "damaged profile": encoded(Image.fromarray(pixels()), icc_profile=b"none"),
    "profile without colours": encoded(
        Image.fromarray(pixels()), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    ),
    "one bit": encoded(Image.fromarray(pixels()[..., 0] > 127)),
    "one bit in tiff": encoded(Image.fromarray(pixels()[..., 0] > 127), "TIFF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_as_the_data_are(preprocess, kind):
    raw = Raw(1, lambda index: Image.open(io.BytesIO(KINDS[kind])), lambda index: "image", None, ())
    trained = evaluate_view([decode(raw, 0)], size=8, normalize=normalization("", 8))
    for given in (KINDS[kind], Image.open(io.BytesIO(KINDS[kind]))):
        assert (preprocess(8)([given]) - trained).abs().max() < 5e-6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(400, 300), (90, 60), (30, 20)])
def test_larger_images_are_reduced_as_the_data_are(preprocess, kind, size):
    image = encoded(Image.fromarray(pixels()).resize(size, Image.Resampling.BICUBIC), kind)
    raw = Raw(1, lambda index: Image.open(io.BytesIO(image)), lambda index: "image", None, (), resize=40)
    trained = evaluate_view([decode(raw, 0)], size=24, normalize=normalization("", 24))
    for given in (image, Image.open(io.BytesIO(image))):
        assert (preprocess(24, reduce=40)([given]) - trained).abs().max() < 5e-6


def test_black_and_white_of_the_run_hold_for_every_image(preprocess):
    image = Image.fromarray(np.full((8, 8), 1000, np.uint16))
    raw = Raw(1, lambda index: image.copy(), lambda index: "image", None, (), levels=lambda: (0, 4095))
    trained = evaluate_view([decode(raw, 0)], size=8, normalize=normalization("", 8))
    assert (preprocess(8, (0, 4095))([image]) - trained).abs().max() < 5e-6
    assert (preprocess(8)([image]) - trained).min() > 1


def test_what_is_no_number_is_refused_by_both(preprocess):
    image = Image.fromarray(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(BadImageError, match="no finite numbers"):
        decode(Raw(1, lambda index: image.copy(), lambda index: "image", None, ()), 0)
    with pytest.raises(ValueError, match="no finite numbers"):
        preprocess(8)([image])
    with pytest.raises(ValueError, match=r"accepted: uint8 of shape \(H, W, 3\)"):
        preprocess(8)([np.ones((8, 8, 3), np.float32)])


@pytest.mark.parametrize("path", PORTABLE, ids=lambda path: path.stem)
def test_it_imports_nothing_of_raydistill(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not [name for name in names if name.split(".")[0] == "raydistill"]

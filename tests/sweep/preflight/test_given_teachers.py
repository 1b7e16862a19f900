"""A teacher that was given says how it sees images; one that was read wrongly is found before it teaches."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from raydistill import config
from raydistill.artifacts import teachers
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import normalization
from raydistill.models.layouts import IMAGENET, PLAIN_PIXELS
from raydistill.models.teacher import FrozenTeacher
from raydistill.sweep.preflight import given_teachers
from raydistill.sweep.preflight.given_teachers import describe_given_teachers

BASE = {"method": {"name": "seed"}, "teacher": {"sources": ["artifact:k"]}}


class KnowsPixelsFrom0To1(nn.Module):
    """Features are the pixels themselves, and noise where a pixel is outside of 0 to 1."""

    name, stem, image_size, dim = "resnet10_w4", "auto", 12, 432

    def forward(self, images):
        inside = (images > -1e-3).flatten(1).all(1) & (images < 1 + 1e-3).flatten(1).all(1)
        noise = torch.sin(1e6 * images.mean((1, 2, 3)))[:, None]
        return torch.where(inside[:, None], images.flatten(1), noise)


class KnowsNothing(KnowsPixelsFrom0To1):
    """Features are noise."""

    def forward(self, images):
        return torch.sin(1e6 * images.mean((1, 2, 3)))[:, None].repeat(1, 2) * torch.tensor([1.0, -1.0])


@pytest.fixture(scope="module")
def digits():
    return load_dataset(config.DataConfig())


def said(monkeypatch, dataset, network, own, base=BASE, called=None):
    shown = normalization("digits", dataset.image_size)
    monkeypatch.setattr(teachers, "load", lambda *_: FrozenTeacher(network, None, own, shown))
    settings = SimpleNamespace(
        arms=(),
        base=config.load(base),
        space=SimpleNamespace(parameters=[]),
        teachers={"artifact:k": called or "file.pth"},
    )
    return list(describe_given_teachers(settings, SimpleNamespace(by_key=lambda *_: True), dataset))


def test_a_teacher_that_is_read_rightly_is_described(monkeypatch, digits):
    first, second = said(monkeypatch, digits, KnowsPixelsFrom0To1(), PLAIN_PIXELS)
    assert first == "teacher file.pth: resnet10_w4, sees images by pixels from 0 to 1"
    assert second.startswith("teacher file.pth: k-NN 9")
    assert second.endswith(" of 192 images")


def test_another_normalisation_that_is_better_is_named(monkeypatch, digits):
    lines = said(monkeypatch, digits, KnowsPixelsFrom0To1(), IMAGENET)
    assert lines[0] == "teacher file.pth: resnet10_w4, sees images by ImageNet's mean and deviation"
    assert "worse than untrained" in lines[1]
    assert lines[2].startswith("warning: teacher file.pth: k-NN 9")
    assert "by pixels from 0 to 1, which is clearly better: it was perhaps trained so" in lines[2]


def test_one_that_knows_less_than_an_untrained_one_is_a_warning(monkeypatch, digits):
    _, line = said(monkeypatch, digits, KnowsNothing(), IMAGENET)
    assert line.startswith("warning: ")
    assert "worse than untrained; perhaps it was read wrongly, see `teacher.format`" in line


def test_where_it_would_take_long_only_the_normalisation_is_said(monkeypatch, digits):
    monkeypatch.setattr(given_teachers, "LONGEST_S", 1e-6)
    (line,) = said(monkeypatch, digits, KnowsNothing(), ((0.5, 0.5, 0.5), (0.25, 0.25, 0.5)))
    assert line.endswith("sees images by mean 0.5, 0.5, 0.5 and deviation 0.25, 0.25, 0.5")


@pytest.mark.parametrize("base", [{"method": {"name": "simclr"}}, {"method": {"name": "seed"}}])
def test_without_a_given_teacher_nothing_is_said(monkeypatch, digits, base):
    assert said(monkeypatch, digits, KnowsNothing(), IMAGENET, base) == []

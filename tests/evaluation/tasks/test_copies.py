"""Copydays: features, whitening and mAP by hand; the folder's layout and what is said about others."""

import logging

import pytest
import torch
from helpers.builders.retrieved import Colours, Square, paint, subject_of

from raydistill.data.images import BadImageError
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.copies import CopyFeature, draw, gem, score, whitening
from raydistill.models.backbones import Backbone

RED, ORANGE, BLUE = (250, 10, 10), (250, 120, 10), (10, 10, 250)


def copydays(home, originals, copies):
    """Write originals 2000, 2001, ... by their colours, and copies by the number of their original."""
    for number, colour in enumerate(originals):
        paint(home / "original" / f"{2000 + number}00.jpg", colour)
    for number, colour in copies:
        paint(home / "strong" / f"{2000 + number}01.jpg", colour, size=(64, 20))
    return home


def scored(encoder, folder):
    return score(subject_of(encoder, folder)).scores["test_copies_map"]


def test_gem_is_the_root_of_the_mean_fourth_power():
    """Of 1 and 3: ((1 + 81) / 2)^(1/4) = 41^(1/4). Negative values count as 0.000001."""
    maps = torch.tensor([[[[1.0, -5.0], [3.0, -1.0]]]])
    assert gem(maps)[0].tolist() == pytest.approx([41**0.25, 1e-6])


@torch.no_grad()
def test_a_feature_is_the_class_token_and_the_gem_of_the_patches():
    backbone, images = Backbone("vit_w64_p8_d1").eval(), torch.randn(2, 3, 48, 48)
    summary, maps = backbone.maps(images)
    found = CopyFeature(backbone)(images)
    assert found.shape == (2, 128)
    assert torch.equal(found[:, :64], summary)
    patches = maps.flatten(1, 2).clamp(min=1e-6).double()
    assert torch.allclose(found[:, 64:].double(), (patches**4).mean(1) ** 0.25, atol=1e-5)


def test_whitening_by_hand():
    """Moments around 0 of (2, 0), (-2, 0), (0, 1), (0, -1) are 2 and 1/2: each has a length of sqrt(2) afterwards."""
    rows = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    mean, projection = whitening(rows)
    assert mean.tolist() == [0, 0]
    assert ((rows - mean) @ projection).norm(dim=1).tolist() == pytest.approx([2**0.5] * 4)


def test_the_moments_are_around_0_and_the_features_around_their_mean():
    """Of 3 and 1 the mean is 2 and the moment (9 + 1) / 2 = 5."""
    mean, projection = whitening(torch.tensor([[3.0], [1.0]]))
    assert mean.item() == 2
    assert abs(projection.item()) == pytest.approx(5**-0.5)


def test_a_direction_without_energy_is_bounded():
    _, projection = whitening(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
    assert sorted(projection.norm(dim=0).tolist()) == pytest.approx([0.5, (4e-5) ** -0.5])


def test_whitened_rows_have_no_correlation():
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 7)).roll(1, 0)
    rows = rows - rows.mean(0)
    mean, projection = whitening(rows)
    white = (rows - mean) @ projection
    assert torch.allclose(white.T @ white / 500, torch.eye(6), atol=1e-3)


def test_a_folder_is_scored_by_hand(tmp_path):
    """The first copy is red as its original; that of the blue one is red, too, and finds it second.

    (1 + (0 + 1/2) / 2) / 2 = 5/8. An orange distractor comes between: (1 + (0 + 1/3) / 2) / 2 = 7/12.
    """
    home = copydays(tmp_path, [RED, BLUE], [(0, RED), (1, RED)])
    encoder = Colours()
    assert scored(encoder, home) == pytest.approx(5 / 8)
    assert {shape[1:] for shape in encoder.seen} == {(3, 320, 320)}
    paint(home / "distractors" / "below" / "orange.png", ORANGE)
    assert scored(Colours(), home) == pytest.approx(7 / 12)


def test_only_the_20_best_count(tmp_path):
    """Twenty distractors in the copy's red, before a blue original that would be the 21st."""
    home = copydays(tmp_path, [BLUE], [(0, RED)])
    for number in range(19):
        paint(home / "distractors" / f"{number}.jpg", RED)
    assert scored(Colours(), home) == pytest.approx((0 + 1 / 20) / 2)
    paint(home / "distractors" / "19.jpg", RED)
    assert scored(Colours(), home) == 0


@pytest.mark.parametrize("name", ["whitening", "train"])
def test_whitening_lets_small_directions_count(tmp_path, name):
    """Red counts tenfold, and by red the copy resembles the other original; by green it is that of its own.

    In units of the normalised colours, (10 red, green) is (1, .5) for the original, (-1, -.5) for the other and
    (-1, .5) for the copy, whose products with them are -.75 and .75. Divided by the spread of each: .24 and -.24.
    """
    home = copydays(tmp_path, [(131, 154, 114), (119, 92, 114)], [(0, (119, 154, 114))])
    encoder = Colours(scale=(10.0, 1.0, 1.0))
    assert scored(encoder, home) == pytest.approx(1 / 4)
    for number in range(8):
        red, green, blue = (60 if number >> place & 1 else -60 for place in range(3))
        paint(home / name / f"{number}.png", (125 + red, 123 + green, 114 + blue))
    assert scored(encoder, home) == 1


@pytest.mark.parametrize(("patch", "side"), [(16, 320), (14, 322), (24, 312), ((7, 9), (322, 324)), (700, 700)])
def test_images_have_the_nearest_size_that_patches_divide(tmp_path, patch, side):
    encoder = Colours(patch=patch)
    scored(encoder, copydays(tmp_path, [RED], [(0, RED)]))
    assert {shape[2:] for shape in encoder.seen} == {side if isinstance(side, tuple) else (side, side)}


@pytest.mark.parametrize("name", ["vit_w64_p32_d2", "resnet10_w4"])
def test_toy_images_are_drawn_and_scored(name, tmp_path):
    subject = subject_of(Backbone(name, image_size=64), "toy", image_size=64, folder=tmp_path)
    scores = score(subject).scores
    assert set(scores) == {"test_copies_map"}
    assert 0 < scores["test_copies_map"] <= 1
    assert len([*(tmp_path / "copydays" / "strong").iterdir()]) == 12


def test_a_drawn_folder_has_the_layout_and_is_not_all_of_copydays(tmp_path, caplog):
    home = draw(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert scored(Colours(), home) > 0.3  # by chance: 0.1, one of 10 images
    assert "6 originals (Copydays: 157) and 4 distractors, 12 strong copies (Copydays: 229), 4 images" in caplog.text


def test_toy_warns_of_nothing(caplog):
    scored(Colours(), "toy")
    assert caplog.text == ""


@pytest.mark.parametrize("missing", ["original", "strong"])
def test_a_folder_of_another_kind_is_refused(tmp_path, missing):
    home = draw(tmp_path)
    (home / missing).rename(home / "else")
    with pytest.raises(TaskError, match=rf"{missing}: no JPEG images; Copydays has original/200000\.jpg"):
        scored(Colours(), home)


def test_a_copy_without_an_original_is_named(tmp_path):
    home = copydays(tmp_path, [RED], [(0, RED), (7, RED)])
    with pytest.raises(TaskError, match=r"strong/200701\.jpg: no original begins with '2007'"):
        scored(Colours(), home)


def test_an_empty_folder_of_distractors_is_refused(tmp_path):
    home = copydays(tmp_path, [RED], [(0, RED)])
    (home / "distractors").mkdir()
    with pytest.raises(TaskError, match="distractors: no images; fill this folder, or remove it"):
        scored(Colours(), home)


def test_an_unreadable_image_is_named(tmp_path):
    home = copydays(tmp_path, [RED, BLUE], [(0, RED)])
    (home / "original" / "200100.jpg").write_text("no image")
    with pytest.raises(BadImageError, match=r"200100\.jpg: unreadable image"):
        scored(Colours(), home)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Square(), "this one has nothing but a feature of each image"),
        (Backbone("wrn10_2"), r"of 320x320 px images: backbone 'wrn10_2' has no maps"),
    ],
)
def test_a_network_without_maps_is_refused(tmp_path, encoder, said):
    with pytest.raises(TaskError, match=said):
        scored(encoder, copydays(tmp_path, [RED], [(0, RED)]))

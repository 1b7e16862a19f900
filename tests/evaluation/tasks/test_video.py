"""Masks carried through a video: by hand, by loops, and by networks whose features are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from raydistill import config
from raydistill.data.views.augment import normalization
from raydistill.evaluation.tasks import video
from raydistill.evaluation.tasks.base import Subject, TaskError, run_tasks
from raydistill.evaluation.tasks.video import carry, draw, input_size, labels_of, propagate, score
from raydistill.models.backbones import Backbone, with_blocks

METRICS = {f"test_video_{m}" for m in ("jf", "j", "j_recall", "j_decay", "f", "f_recall", "f_decay")}


class Colours(nn.Module):
    """An encoder whose features are the mean colours of patches."""

    def __init__(self, patch=1):
        super().__init__()
        self.patch, self.seen = patch, []

    def maps(self, images):
        self.seen.append(images)
        found = F.avg_pool2d(images, self.patch).permute(0, 2, 3, 1)
        return found.mean((1, 2)), found


class Places(Colours):
    """An encoder that sees nothing but where a pixel is."""

    def maps(self, images):
        height, width = images.shape[-2:]
        found = torch.eye(height * width).view(1, height, width, -1)
        return found.mean((1, 2)), found


def subject(encoder, source="toy", folder=None, size=8, settings=None):
    dataset = SimpleNamespace(name="own", image_size=size)
    return Subject(encoder, dataset, settings, torch.device("cpu"), source=str(source), folder=folder)


def write(root, clips):
    """Write clips of flat shapes as a folder of DAVIS: for each a list of labels (H, W), with a colour each."""
    colours = np.array([[30, 90, 60], [220, 40, 40], [40, 40, 220]], dtype=np.uint8)
    for name, masks in clips.items():
        for part in ("JPEGImages", "Annotations"):
            (root / part / "480p" / name).mkdir(parents=True, exist_ok=True)
        for number, labels in enumerate(masks):
            frame = Image.fromarray(colours[labels])
            frame.save(root / f"JPEGImages/480p/{name}/{number:05}.jpg", quality=100, subsampling=0)
            Image.fromarray(labels).save(root / f"Annotations/480p/{name}/{number:05}.png")
    (root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(clips))
    return root


def square(shape, top, left, side, label=1):
    labels = np.zeros(shape, np.uint8)
    labels[top : top + side, left : left + side] = label
    return labels


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def by_loops(context, target, radius, neighbours):
    """The nearest features of each place, one place after the other, in float64."""
    height, width, _ = target.shape
    cosines = [np.einsum("yxd,vud->yxvu", target.double(), features.double()) for features, _ in context]
    out = np.zeros((len(context[0][1]), height, width))
    for y in range(height):
        for x in range(width):
            near = []
            for found, (_, masks) in zip(cosines, context, strict=True):
                for v in range(max(0, y - radius), min(height, y + radius + 1)):
                    for u in range(max(0, x - radius), min(width, x + radius + 1)):
                        near.append((found[y, x, v, u], masks[:, v, u].numpy()))
            near.sort(key=lambda pair: -pair[0])
            weights = [math.exp(cosine / 0.1) for cosine, _ in near[:neighbours]]
            out[:, y, x] = sum(w * mask for w, (_, mask) in zip(weights, near, strict=False)) / sum(weights)
    return out


@pytest.mark.parametrize(("radius", "neighbours"), [(2, 5), (6, 5), (1, 3)])
def test_masks_are_carried_as_by_loops(radius, neighbours):
    """On 18 x 20 features, more than a tile in both directions."""
    context = [(unit(18, 20, 4, seed=i), torch.rand(2, 18, 20)) for i in range(2)]
    target = unit(18, 20, 4, seed=9)
    found = carry(context, target, radius=radius, neighbours=neighbours)
    np.testing.assert_allclose(found, by_loops(context, target, radius, neighbours), atol=1e-4)


def directions(cosines):
    """Features (1, 1, 2) with these cosines to (1, 0)."""
    return [torch.tensor([[[c, math.sqrt(1 - c * c)]]]) for c in cosines]


def shares(cosines):
    """How much each of several frames of one feature counts."""
    masks = torch.eye(len(cosines))[:, :, None, None]
    context = list(zip(directions(cosines), masks, strict=True))
    return carry(context, torch.tensor([[[1.0, 0.0]]])).flatten().tolist()


def test_five_neighbours_count_by_hand():
    """exp(c / 0.1) of 1, 0.9, ... 0.6 are as 1 to e^-1 to ... e^-4, whose sum is 1.5713; 0.5 is no neighbour."""
    assert shares([0.5, 1.0, 0.9, 0.8, 0.7, 0.6]) == pytest.approx(
        [0, 0.6364, 0.2341, 0.0861, 0.0317, 0.0117], abs=1e-4
    )


def test_all_that_are_as_near_as_the_fifth_count():
    assert shares([0.5] * 7) == pytest.approx([1 / 7] * 7)
    assert shares([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.3])[-1] == 0


def test_fewer_features_than_neighbours_are_enough():
    assert shares([0.2]) == pytest.approx([1])
    assert sum(shares([0.2, 0.9])) == pytest.approx(1)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("at", [0, 14, 16, 39])
@pytest.mark.parametrize("distance", [-13, -12, 0, 12, 13])
def test_neighbours_are_at_most_twelve_features_away(at, distance, upright):
    """One feature of a line has a partner, which has the mask; it is found up to 12 places away."""
    place = at + distance
    if not 0 <= place < 40:
        place = at - distance
    features, target = torch.tensor([1.0, 0.0]).repeat(2, 1, 40, 1)
    features[0, place] = target[0, at] = torch.tensor([0.0, 1.0])
    mask = torch.zeros(1, 1, 40)
    mask[0, 0, place] = 1
    if upright:
        features, target, mask = features.transpose(0, 1), target.transpose(0, 1), mask.transpose(1, 2)
    found = carry([(features, mask)], target, neighbours=1).flatten()
    assert found[at] == (1 if abs(distance) <= 12 else 0)
    assert found.sum() == found[at]


def test_a_frame_looks_at_the_first_and_the_last_seven(monkeypatch):
    looked = []

    def recorded(context, target):
        looked.append([int(masks.flatten()[0]) for _, masks in context])
        return torch.full((1, 1, 1), float(len(looked)))

    monkeypatch.setattr(video, "carry", recorded)
    found = list(propagate((torch.ones(1, 1, 2) for _ in range(11)), torch.zeros(1, 1, 1)))
    assert [masks.item() for masks in found] == list(range(1, 11))
    assert looked[0] == [0]
    assert looked[6] == [0, 1, 2, 3, 4, 5, 6]
    assert looked[7] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert looked[9] == [0, 3, 4, 5, 6, 7, 8, 9]


def test_an_object_that_was_away_is_found_again():
    """The first frame stays, so a square is known after ten frames without it."""
    ground, seen = torch.tensor([1.0, 0.0]).repeat(8, 8, 1), torch.from_numpy(square((8, 8), 2, 3, 3)).bool()
    shown = ground.clone()
    shown[seen] = torch.tensor([0.0, 1.0])
    masks = torch.stack([~seen, seen]).float()
    *hidden, last = propagate([shown, *[ground] * 10, shown], masks)
    assert len(hidden) == 10
    assert torch.equal(last.argmax(0).bool(), seen)


def test_features_of_any_length_give_the_same_masks():
    maps, first = [unit(6, 6, 4, seed=i) for i in range(4)], torch.rand(2, 6, 6)
    scaled = [found * (0.1 + 9 * torch.rand(6, 6, 1)) for found in maps]
    for a, b in zip(propagate(maps, first), propagate(scaled, first), strict=True):
        torch.testing.assert_close(a, b)


def test_labels_by_hand():
    """Both masks are stretched to 0 to 1, so the object wins where it is stronger than elsewhere.

    Two features over four pixels: the object has 0, 0.25, 0.75 and 1 of the range.
    """
    masks = torch.tensor([[[0.9, 0.8]], [[0.1, 0.2]]])
    assert labels_of(masks, (1, 4), (1, 4)).tolist() == [[0, 0, 1, 1]]
    assert labels_of(masks, (1, 4), (2, 8)).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_a_mask_that_is_the_same_everywhere_is_not_stretched():
    assert labels_of(torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]), (4, 4), (4, 4)).max() == 0
    assert labels_of(torch.stack([torch.zeros(2, 2), torch.ones(2, 2)]), (4, 4), (4, 4)).min() == 1


@pytest.mark.parametrize(
    ("size", "patch", "expected"),
    [
        ((480, 854), 8, (480, 832)),
        ((480, 910), 16, (480, 896)),
        ((854, 480), 32, (832, 480)),
        ((1080, 1920), 8, (480, 832)),
        ((480, 480), 16, (480, 480)),
        ((480, 854), 14, (476, 854)),
        ((480, 854), 64, (448, 832)),
        ((64, 96), 8, (64, 96)),
        ((30, 50), 8, (24, 48)),
        ((5, 9), 8, (8, 8)),
    ],
)
def test_sizes_of_frames(size, patch, expected):
    assert input_size(*size, patch) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 64))
def test_patches_divide_every_size(height, width, patch):
    found = input_size(height, width, patch)
    assert all(side >= patch and side % patch == 0 for side in found)
    assert min(found) <= max(480, patch)
    assert input_size(width, height, patch) == found[::-1]


def test_colours_carry_a_square_exactly(tmp_path):
    """It moves by 8 pixels a frame, for longer than the last seven frames reach."""
    moving = [square((16, 88), 8, 8 * i, 8) for i in range(11)]
    found = score(subject(Colours(), write(tmp_path, {"moving": moving}))).scores
    assert found == {f"test_video_{m}": 1 for m in ("jf", "j", "j_recall", "f", "f_recall")} | {
        "test_video_j_decay": 0,
        "test_video_f_decay": 0,
    }


def test_a_network_that_sees_no_motion_by_hand(tmp_path):
    """A square of 12 pixels moves by 3 a frame, while its mask stays: J is 9/15, 6/18 and 3/21.

    Of five frames the first and the last are left out. Decay of three frames: mean of the first two, less the last.
    Its boundary is a ring of 13 x 13, 48 pixels. Tolerance: 1 pixel. Moved by 3, of its upper and of its lower row
    11 of 13 are near the other ring, and of a column the 2 pixels next to these rows: F is 24/48; then 18/48 and 12/48.
    """
    static = [square((16, 28), 2, 1 + 3 * i, 12) for i in range(5)]
    found = score(subject(Places(), write(tmp_path, {"static": static}))).scores
    regions, boundaries = [9 / 15, 6 / 18, 3 / 21], [24 / 48, 18 / 48, 12 / 48]
    expected = {
        "test_video_jf": (sum(regions) + sum(boundaries)) / 6,
        "test_video_j": sum(regions) / 3,
        "test_video_j_recall": 1 / 3,
        "test_video_j_decay": (9 / 15 + 6 / 18) / 2 - 3 / 21,
        "test_video_f": 3 / 8,
        "test_video_f_recall": 0,
        "test_video_f_decay": (4 / 8 + 3 / 8) / 2 - 2 / 8,
    }
    assert found == pytest.approx(expected)


def test_objects_count_the_same_whatever_their_sequences(tmp_path):
    """One object that stays, and two that are alone: one stays, and J of the other is 0 in its one scored frame."""
    moved = [square((16, 24), 8, 12 * (i > 0), 4, 2) for i in range(3)]
    both = [square((16, 24), 0, 4, 4) + each for each in moved]
    alone = [square((16, 24), 4, 4, 8)] * 3
    found = score(subject(Places(), write(tmp_path, {"both": both, "alone": alone}))).scores
    assert found["test_video_j"] == pytest.approx(2 / 3)
    assert found["test_video_f"] == pytest.approx(2 / 3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("davis"))


@pytest.mark.parametrize("numbers", [(2, 1), (7, 3)])
def test_numbers_of_objects_do_not_matter(drawn, tmp_path, numbers):
    masks = [np.array(Image.open(path)) for path in sorted((drawn / "Annotations/480p/pair").iterdir())]
    renamed = draw(tmp_path)
    for number, labels in enumerate(masks):
        changed = np.array([0, *numbers], np.uint8)[labels]
        Image.fromarray(changed).save(renamed / f"Annotations/480p/pair/{number:05}.png")
    before, after = (score(subject(Colours(8), folder)).scores for folder in (drawn, renamed))
    assert after == pytest.approx(before)
    assert 0.3 < before["test_video_jf"] < 1


def test_the_first_and_the_last_frame_are_not_scored(drawn, tmp_path):
    other = draw(tmp_path)
    last, second = (other / f"Annotations/480p/disc/{number:05}.png" for number in (9, 1))
    expected = score(subject(Colours(8), drawn)).scores
    last.unlink()
    assert score(subject(Colours(8), other)).scores == expected
    Image.new("P", (96, 64)).save(second)
    assert score(subject(Colours(8), other)).scores["test_video_j"] < expected["test_video_j"] - 0.03


def test_frames_are_normalised_as_the_run_normalises(tmp_path):
    encoder = Colours()
    score(subject(encoder, write(tmp_path, {"still": [square((16, 16), 0, 0, 8)] * 3}), size=64))
    mean, deviation = (torch.tensor(values) for values in normalization("own", 64))
    probe, first, second = encoder.seen
    assert probe.shape == (1, 3, 64, 64)
    assert torch.equal(first, second)
    expected = (torch.tensor([30, 90, 60]) / 255 - mean) / deviation
    torch.testing.assert_close(first[0, :, 12, 12], expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", ["vit_w64_p8_d2", "resnet10_w4", "torchvision:mobilenet_v3_small"])
def test_networks_are_scored_and_left_as_they_are(name, drawn):
    torch.manual_seed(0)
    net = Backbone(name, image_size=32).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for encoder in with_blocks(net).values():
        found = score(subject(encoder.eval(), drawn, size=32)).scores
        assert set(found) == METRICS
        assert all(math.isfinite(value) for value in found.values())
        assert 0 <= found["test_video_jf"] <= 1
        assert found == score(subject(encoder, drawn, size=32)).scores
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_toy_is_drawn_where_it_may_be(tmp_path, drawn):
    assert score(subject(Colours(8), folder=tmp_path)).scores == score(subject(Colours(8), drawn)).scores
    assert (tmp_path / "DAVIS/ImageSets/2017/val.txt").is_file()
    assert score(subject(Colours(8))).scores == score(subject(Colours(8), drawn)).scores


class Blind(Colours):
    def maps(self, images):
        if images.shape[-1] > 8:
            raise ValueError("patches of 5 px do not divide images")
        return super().maps(images)


class Lost(Colours):
    def maps(self, images):
        return tuple(found * math.nan for found in super().maps(images))


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (nn.Identity(), "Identity has no maps of features"),
        (Blind(), r"cannot see frames of 96x64 px \(patches of 5 px do not divide images\)"),
        (Lost(), "features are not finite"),
    ],
)
def test_networks_without_maps_are_refused(encoder, said, drawn):
    with pytest.raises(TaskError, match=said):
        score(subject(encoder, drawn))


def test_it_runs_among_the_tasks_and_a_wrong_folder_is_left_out(tmp_path, drawn, caplog):
    """A network without maps is passed over."""
    wanted = config.load({"method": "dogo", "eval": {"tasks": [f"video:{tmp_path}", f"video:{drawn}"]}})
    assert set(run_tasks(subject(Colours(8), settings=wanted)).scores) == METRICS
    assert f"task video:{tmp_path} is left out: {tmp_path}/ImageSets/2017/val.txt is missing" in caplog.text
    assert run_tasks(subject(nn.Identity(), settings=wanted)).scores == {}

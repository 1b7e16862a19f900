"""The task from a folder to scores: schedules, mirrored images, training that learns and repeats, statistics."""

import copy
import itertools
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.builders.detection_folders import draw_coco
from helpers.builders.runs import TINY
from torchvision.models.detection import FasterRCNN

from raydistill import config
from raydistill.data.images import DataError
from raydistill.evaluation.benchmarks import detection_data
from raydistill.evaluation.benchmarks.detection_data import open_benchmark
from raydistill.evaluation.benchmarks.detector import ImageScale, build_detector
from raydistill.evaluation.tasks import detection
from raydistill.evaluation.tasks.base import Subject, TaskError, run_tasks
from raydistill.evaluation.tasks.detection import SCHEDULES, detect, mirror, score, train_detector
from raydistill.models.backbones import Backbone

VOC = {"test_detection_ap", "test_detection_ap50", "test_detection_ap75"}
SHOWN = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(detection_data, "TOY_IMAGES", {"trainval": 6, "test": 2})


def encoder(name="resnet10_w4"):
    """A network whose blocks all have a say, as those of a trained one: timm's begin with norms of weight 0."""
    torch.manual_seed(0)
    found = Backbone(name, image_size=64).eval()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    return found


def subject(source, folder=None, name="resnet10_w4", **settings):
    values = {"method": TINY, "eval": {"detector_steps": 1, "tasks": [f"detection:{source}"], **settings}}
    data = SimpleNamespace(name="digits", image_size=32)
    return Subject(encoder(name), data, config.load(values), torch.device("cpu"), source=str(source), folder=folder)


def detector_for(benchmark, masks=False):
    torch.manual_seed(0)
    return build_detector(encoder(), len(benchmark.classes), "c4", ImageScale((48, 64), 0.08), SHOWN, masks=masks)


def test_a_toy_is_drawn_and_scored_and_the_encoder_stays(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(detection_data, "TOY_SIDE", 32)
    own = subject("toy", tmp_path)
    before, state = copy.deepcopy(own.encoder.state_dict()), torch.get_rng_state()
    found = score(own)
    assert set(found.scores) == VOC
    assert all(0 <= value <= 1 for value in found.scores.values())
    assert all(torch.equal(value, before[name]) for name, value in own.encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert "detection: step 1 of 1, loss" in caplog.text


def test_a_coco_is_scored_on_boxes_and_masks(tmp_path):
    found = score(subject(draw_coco(tmp_path / "coco")))
    assert set(found.scores) == VOC | {"test_masks_ap"}
    assert all(0 <= value <= 1 for value in found.scores.values())


def test_training_learns_and_repeats(tmp_path):
    """The same few images again and again: the loss must fall. Its first steps are the same with the same seed."""
    benchmark = open_benchmark(detection.draw(tmp_path))
    schedule = replace(SCHEDULES["voc"], batch=2, lr=0.05)

    def losses(steps, seed):
        detector = detector_for(benchmark)
        torch.manual_seed(seed)
        return train_detector(detector, benchmark, schedule, steps, seed=seed)

    found = losses(9, 0)
    assert sum(found[-3:]) < 0.8 * sum(found[:3])
    assert losses(1, 0) == found[:1]
    assert losses(1, 1) != found[:1]


def test_all_of_the_backbone_moves_and_norms_have_the_statistics_of_the_last_weights(tmp_path):
    benchmark = open_benchmark(detection.draw(tmp_path))
    detector = detector_for(benchmark)
    before = {name: each.clone() for name, each in detector.named_parameters()}
    train_detector(detector, benchmark, replace(SCHEDULES["voc"], batch=2, lr=0.05), 2, seed=0)
    still = [name for name, each in detector.named_parameters() if torch.equal(each, before[name])]
    assert still == []
    assert isinstance(detector, FasterRCNN)
    assert not detector.training
    first = detector.backbone[0][1]
    assert first.num_batches_tracked == 1  # after two steps: a tenth of them, rounded up
    assert first.momentum == 0.1


def test_norms_have_no_weight_decay(tmp_path):
    detector = detector_for(open_benchmark(detection.draw(tmp_path)))
    decayed, bare = detection._groups(detector)
    assert (decayed["weight_decay"], bare["weight_decay"]) == (1e-4, 0)
    both = [id(each) for group in (decayed, bare) for each in group["params"]]
    assert sorted(both) == sorted({id(each) for each in detector.parameters()})
    assert {each.ndim for each in bare["params"]} == {1}


def test_rates_of_the_papers_schedules():
    """VOC: linear over 200 steps from a thousandth; of 48 000 steps divided by 10 at 36 000 and at 44 000."""
    voc, coco = SCHEDULES["voc"], SCHEDULES["coco"]
    assert (voc.steps, voc.batch, voc.lr) == (48_000, 32, 0.01)
    assert voc.rate(0, 48_000) == pytest.approx(0.001)
    assert voc.rate(100, 48_000) == pytest.approx(0.5005)
    rates = [voc.rate(step, 48_000) for step in (200, 35_999, 36_000, 43_999, 44_000)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    # MoCo's 24 000 steps: 18 000 and 22 000.
    assert [voc.rate(step, 24_000) for step in (17_999, 18_000, 22_000)] == pytest.approx([1, 0.1, 0.01])
    # A short training: a tenth of it rises.
    assert [voc.rate(step, 20) for step in (0, 1, 2, 14, 15, 18)] == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.01])
    assert voc.rate(0, 5) == 1
    assert [coco.rate(step, coco.steps) for step in (1000, 120_000, 160_000)] == pytest.approx([1, 0.1, 0.01])


def test_mirrored_twice_is_the_same_and_objects_follow_their_pixels():
    pixels = torch.zeros(3, 8, 10, dtype=torch.uint8)
    pixels[:, 2:5, 1:4] = 1
    target = {"boxes": torch.tensor([[1.0, 2.0, 4.0, 5.0]]), "labels": torch.tensor([1]), "masks": pixels[:1]}
    turned, found = mirror(pixels, target)
    assert found["boxes"].tolist() == [[6, 2, 9, 5]]
    assert turned[:, 2:5, 6:9].all()
    assert turned.sum() == pixels.sum()
    assert torch.equal(found["masks"], turned[:1])
    back, same = mirror(turned, found)
    assert torch.equal(back, pixels)
    assert all(torch.equal(same[name], target[name]) for name in target)


def test_batches_go_through_all_images_before_one_comes_again(tmp_path):
    benchmark = open_benchmark(detection.draw(tmp_path))
    batches = list(detection._batches(benchmark.train, 2, 6, np.random.default_rng(0), masks=False))
    assert [len(batch) for batch in batches] == [2] * 6

    def key(pixels):
        return min(tuple(each.flatten().tolist()[::7]) for each in (pixels, pixels.flip(2)))

    epochs = [[key(pixels) for batch in part for pixels, _ in batch] for part in (batches[:3], batches[3:])]
    assert len(set(epochs[0])) == 6
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


def test_detections_are_in_the_pixels_of_the_file(tmp_path):
    """A detector that sees images at 80 px answers in those of 64 px."""
    benchmark = open_benchmark(detection.draw(tmp_path))
    detector = detector_for(benchmark).eval()
    detector.roi_heads.score_thresh = 0.0
    found = detect(detector, benchmark.test)
    assert [len(each.boxes) > 0 for each in found] == [True, True]
    for each in found:
        assert each.boxes.min() >= 0
        assert 50 < each.boxes.max() <= 64
        assert set(each.labels) <= {1, 2}


def test_a_loss_that_is_no_number_ends_the_task(tmp_path):
    benchmark = open_benchmark(detection.draw(tmp_path))

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(float("nan")))

        def forward(self, images, targets):
            return {"loss": self.weight}

    with pytest.raises(TaskError, match="the loss is nan at step 1 of 3"):
        train_detector(Broken(), benchmark, SCHEDULES["voc"], 3, seed=0)


def test_what_cannot_be_scored_says_why_and_is_left_out(tmp_path, caplog):
    with pytest.raises(TaskError, match=r"is no folder; expected VOC2007"):
        score(subject(tmp_path / "missing"))
    folder = detection.draw(tmp_path)
    with pytest.raises(TaskError, match="vit_w16_d2 has no conv1"):
        score(subject(folder, name="vit_w16_d2"))
    for path in itertools.islice((folder / "VOC2007" / "JPEGImages").iterdir(), 8):
        path.unlink()
    with pytest.raises(DataError, match="cannot be read as an image"):
        score(subject(folder))
    assert run_tasks(subject(tmp_path / "missing")).scores == {}
    assert "is left out" in caplog.text


def test_a_network_with_channels_last_is_trained(tmp_path):
    """As a sweep scores it: with channels last, the backward pass on a CPU has ended the process."""
    seen = subject(detection.draw(tmp_path), detector_steps=2)
    seen.encoder.to(memory_format=torch.channels_last)
    assert set(score(seen).scores) == {"test_detection_ap", "test_detection_ap50", "test_detection_ap75"}
    assert seen.encoder.net.layer4[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)

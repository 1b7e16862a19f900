"""Detection with a distilled backbone: Faster R-CNN on VOC, Mask R-CNN on COCO (SEED, table 2; SimReg, table 6).

The whole detector is trained. The protocol is SEED's, and that of facebookresearch/moco (detection/configs) and of
Detectron2's defaults where SEED's paper is silent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.data.pool import pool
from raydistill.data.views.augment import normalization
from raydistill.evaluation.benchmarks.detection_data import (
    AnnotatedImage,
    Benchmark,
    coco_library,
    draw_voc,
    open_benchmark,
    read_masks,
    read_pixels,
)
from raydistill.evaluation.benchmarks.detection_metrics import THRESHOLDS, Detected, score_coco, score_voc
from raydistill.evaluation.benchmarks.detector import build_detector, fit_scale
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError
from raydistill.evaluation.tasks.names import TOY

log = logging.getLogger(__name__)
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
TOY_STEPS = 20
LINES = 50  # of progress in a training
NORM_BATCHES = 200  # that the batch norms' statistics are taken from after training
TEST_BATCH = 4
Target = dict[str, Tensor]


@dataclass(frozen=True)
class DetectorSchedule:
    """Length, batch and learning rate of a training.

    Args:
        steps: of training.
        batch: images of a step.
        lr: learning rate for that batch.
        warm_up: steps in which it rises from a thousandth.
        drops: shares of the steps after which it is divided by 10.
        smallest: short side of training images in pixels; they go up to 800.
    """

    steps: int
    batch: int
    lr: float
    warm_up: int
    drops: tuple[float, float]
    smallest: int

    def rate(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step of a training of so many. Source: Detectron2's WarmupMultiStepLR."""
        warm_up = min(self.warm_up, steps // 10)
        rise = 1.0 if step >= warm_up else 0.001 + 0.999 * step / warm_up
        return float(rise * 0.1 ** sum(step >= round(share * steps) for share in self.drops))


SCHEDULES = {
    # SEED: 48 000 steps of 32 images; MoCo, whose shares the drops are, has 24 000 of 16 with lr 0.02.
    "voc": DetectorSchedule(48_000, 32, 0.01, 200, (18 / 24, 22 / 24), 400),
    "coco": DetectorSchedule(180_000, 16, 0.02, 1000, (12 / 18, 16 / 18), 600),
}


def score(subject: Subject) -> Findings:
    """Train a detector on a copy of the encoder, and score it on the benchmark's test images.

    Raises:
        TaskError: the network has not the stages of a ResNet, the folder has no benchmark, or a library is missing.
        DataError: a file of the benchmark is missing or damaged.
    """
    if subject.source != TOY:
        return _score_on(Path(subject.source).expanduser(), subject)
    with TemporaryDirectory() as place:
        return _score_on(draw(subject.folder or Path(place)), subject)


def _score_on(folder: Path, subject: Subject) -> Findings:
    """Train a detector on the benchmark in a folder, and score it."""
    benchmark = open_benchmark(folder)
    settings, seed = subject.config.eval, subject.config.train.seed
    schedule = SCHEDULES[benchmark.kind]
    scale = fit_scale(schedule.smallest, median(max(image.size) for image in benchmark.train))
    masks = benchmark.kind == "coco"
    shown = normalization(subject.dataset.name, subject.dataset.image_size)
    steps = settings.detector_steps or (TOY_STEPS if subject.source == TOY else schedule.steps)
    devices = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        classes = len(benchmark.classes)
        detector = build_detector(subject.encoder, classes, settings.detector, scale, shown, masks=masks)
        if subject.device.type == "cpu":
            # oneDNN of torch 2.15 writes beyond its memory in the backward pass of 1x1 convolutions with channels last.
            detector.to(memory_format=torch.contiguous_format)
        train_detector(detector, benchmark, schedule, steps, seed=seed)
    found = detect(detector, benchmark.test)
    return Findings(_scores(found, benchmark))


def draw(folder: Path) -> Path:
    """Draw a tiny VOC2007 of coloured rectangles and ellipses, to try the task out; the folder to score on."""
    return draw_voc(folder)


def _scores(found: Sequence[Detected], benchmark: Benchmark) -> dict[str, float]:
    names = ("test_detection_ap", "test_detection_ap50", "test_detection_ap75")
    if benchmark.kind == "coco":
        boxes = dict(zip(names, score_coco(found, benchmark, "bbox"), strict=True))
        return {**boxes, "test_masks_ap": score_coco(found, benchmark, "segm")[0]}
    at = dict(zip(THRESHOLDS, score_voc(found, benchmark.test), strict=True))
    return dict(zip(names, (sum(at.values()) / len(at), at[0.5], at[0.75]), strict=True))


def train_detector(
    detector: nn.Module, benchmark: Benchmark, schedule: DetectorSchedule, steps: int, *, seed: int
) -> list[float]:
    """Train a detector in place by SGD, batch norms and all, and end with exact statistics of its batch norms.

    A batch has at most a quarter of the training images, and the learning rate follows its size. Half of the images are
    mirrored.

    Args:
        detector: of `build_detector`; it ends in eval mode.
        benchmark: its training images.
        schedule: of the benchmark.
        steps: of training; warm-up and drops of the learning rate move with them.
        seed: of the order of the images, and of which are mirrored.

    Returns: the loss of each step.

    Raises:
        TaskError: a loss is no finite number.
        DataError: an image cannot be read.
    """
    size = min(schedule.batch, max(1, math.ceil(len(benchmark.train) / 4)))
    lr = schedule.lr * size / schedule.batch
    optimizer = torch.optim.SGD(_groups(detector), lr=lr, momentum=MOMENTUM)
    masks = benchmark.kind == "coco"
    norm_batches = min(NORM_BATCHES, math.ceil(steps / 10))
    batches = _batches(benchmark.train, size, steps + norm_batches, np.random.default_rng([seed, 5]), masks=masks)
    device, every = next(detector.parameters()).device, max(1, steps // LINES)
    losses = []
    log.info("detection: %d steps of %d images, lr %.3g", steps, size, lr)
    detector.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule.rate(step, steps)
        loss = sum(detector(*_moved(next(batches), device)).values())
        losses.append(loss.detach().item())
        if not math.isfinite(losses[-1]):
            raise TaskError(f"detection: the loss is {losses[-1]} at step {step + 1} of {steps}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % every == 0:
            recent = losses[-every:]
            log.info("detection: step %d of %d, loss %.3f", step + 1, steps, sum(recent) / len(recent))
    _settle_norms(detector, (_moved(batch, device) for batch in batches))
    detector.eval()
    return losses


def _groups(detector: nn.Module) -> list[dict[str, Any]]:
    """Parameters with weight decay, and those of norms, which have none (Detectron2's WEIGHT_DECAY_NORM)."""
    norms = [p for module in detector.modules() if isinstance(module, nn.BatchNorm2d) for p in module.parameters()]
    bare = {id(each) for each in norms}
    others = [each for each in detector.parameters() if id(each) not in bare]
    return [{"params": others, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]


@torch.no_grad()
def _settle_norms(detector: nn.Module, batches: Iterator[tuple[list[Tensor], list[Target]]]) -> None:
    """Average the statistics of batch norms over batches with the final weights (Detectron2's PRECISE_BN)."""
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in batches:
        detector(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _batches(
    images: Sequence[AnnotatedImage], size: int, count: int, rng: np.random.Generator, *, masks: bool
) -> Iterator[list[tuple[Tensor, Target]]]:
    """Batches of pixels (3, H, W) uint8 with their objects, read ahead by threads, epoch after epoch.

    Args:
        images: to read.
        size: of a batch.
        count: how many batches.
        rng: of the order, and of which images are mirrored.
        masks: whether the objects have masks.
    """

    def drawn() -> Iterator[tuple[AnnotatedImage, bool]]:
        while True:
            for place in rng.permutation(len(images)):
                yield images[place], bool(rng.random() < 0.5)

    order, ahead = drawn(), list[list[Future[tuple[Tensor, Target]]]]()
    for batch in range(count + 2):
        if batch < count:
            ahead.append([pool().submit(_read, *next(order), masks) for _ in range(size)])
        if batch >= 2:
            yield [future.result() for future in ahead.pop(0)]


def _read(image: AnnotatedImage, mirrored: bool, masks: bool) -> tuple[Tensor, Target]:
    pixels, boxes = read_pixels(image), torch.from_numpy(image.boxes).float()
    target = {"boxes": boxes, "labels": torch.from_numpy(image.labels)}
    if masks:
        target["masks"] = read_masks(image)
    return mirror(pixels, target) if mirrored else (pixels, target)


def mirror(pixels: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirror an image (3, H, W) and its objects: left becomes right."""
    left, top, right, bottom = target["boxes"].unbind(1)
    width = pixels.shape[2]
    found = target | {"boxes": torch.stack([width - right, top, width - left, bottom], 1)}
    if "masks" in target:
        found["masks"] = target["masks"].flip(2)
    return pixels.flip(2), found


def _moved(batch: Sequence[tuple[Tensor, Target]], device: torch.device) -> tuple[list[Tensor], list[Target]]:
    """A batch on a device, its pixels between 0 and 1."""
    images = [pixels.to(device).float().div_(255) for pixels, _ in batch]
    return images, [{name: value.to(device) for name, value in target.items()} for _, target in batch]


@torch.inference_mode()
def detect(detector: nn.Module, images: Sequence[AnnotatedImage]) -> list[Detected]:
    """Detect the objects in images, at most 100 in each. Raises: DataError."""
    detector.eval()
    device, found = next(detector.parameters()).device, []
    for start in range(0, len(images), TEST_BATCH):
        read = pool().map(read_pixels, images[start : start + TEST_BATCH])
        outputs = detector([pixels.to(device).float().div_(255) for pixels in read])
        found += [_detected(output) for output in outputs]
    return found


def _detected(output: Target) -> Detected:
    masks: tuple[Any, ...] = ()
    if "masks" in output:
        encode = coco_library().mask.encode
        inside = (output["masks"][:, 0] > 0.5).byte().cpu().numpy()
        masks = tuple(encode(np.asfortranarray(each)) for each in inside)
    boxes, labels, scores = (output[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
    return Detected(boxes.astype(float), labels, scores.astype(float), masks)

"""Images per second of one SimCLR learner, here and with the lightly library.

    python analysis/benchmarks/throughput.py [--quick]

Both train the same network (32 px, the head of DoGo's code) on the same images with the same augmentation,
batch, optimizer and threads: two views an image, forward, backward, update. lightly runs as it documents
itself: `SimCLRTransform` on PIL images in a torch `DataLoader`, with no worker and with two, and its
`NTXentLoss`. Before the clock starts the two losses are compared on one batch. The arms take turns; the first
turn warms up and is dropped. Backbones: ResNet-18 as ImageNet has it, and the narrow ResNet-10 of the default
sweep. Images are noise with a natural image's spectrum, drawn once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from augment import natural_noise
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from measure import MIN_REPEATS, as_json, ratio, spread
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import to_pil_image

from raydistill import config, methods
from raydistill.data.images import Decoder, Images, Raw
from raydistill.data.stream import Stream
from raydistill.data.views.augment import normalization
from raydistill.losses.contrastive import nt_xent
from raydistill.methods import Batch, MethodContext
from raydistill.training.learner import Learner
from raydistill.training.teachers import LearnerInputs

SIZE, BATCH, THREADS, TAU, LR = 32, 128, 2, 0.5, 1e-3
MEAN, STD = normalization("cifar10", SIZE)
BACKBONES = {"resnet18": "imagenet", "resnet10_w16": "auto"}


class Pictures(Dataset):
    """What lightly's users hand to a loader."""

    def __init__(self, images: torch.Tensor) -> None:
        self.pictures = [to_pil_image(image) for image in images]
        self.transform = SimCLRTransform(
            input_size=SIZE,
            cj_strength=1.0,
            cj_bright=0.8,
            cj_contrast=0.8,
            cj_sat=0.8,
            cj_hue=0.2,
            min_scale=0.08,
            gaussian_blur=0.0,
            normalize={"mean": MEAN, "std": STD},
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self.transform(self.pictures[index])


def settings(backbone: str) -> config.Config:
    return config.load(
        {
            "method": {"name": "simclr", "backbone": backbone, "stem": BACKBONES[backbone], "tau_c": TAU},
            "data": {"batch_size": BATCH},
            "train": {"epochs": 10_000, "lr": LR, "weight_decay": 0.0},
        }
    )


def ours(backbone: str, images: torch.Tensor) -> Callable[[], float]:
    """Seconds of one epoch here."""
    raw = Raw(len(images), lambda i: to_pil_image(images[i]), lambda i: f"image {i}", None, ())
    decoder = Decoder(raw, torch.arange(len(images)).numpy(), skip=False, cache_bytes=2**30)
    split = Images(decoder, torch.arange(len(images)), None, (), SIZE)
    stream = Stream(split, size=SIZE, batch_size=BATCH, seed=0, normalize=(MEAN, STD), prefetch=0)
    learner = Learner(settings(backbone), LearnerInputs(MethodContext(SIZE)), steps_per_epoch=stream.steps_per_epoch)
    epochs = iter(range(10_000))

    def epoch() -> float:
        began = time.perf_counter()
        learner.start_epoch()
        for views, indices in stream.epoch(next(epochs), learner.views):
            learner.train_step(Batch(views, indices))
        learner.finish_epoch()
        return time.perf_counter() - began

    return epoch


def lightlys(backbone: str, images: torch.Tensor, loaders: int) -> Callable[[], float]:
    """Seconds of one epoch with lightly."""
    method = methods.build(settings(backbone).method, MethodContext(SIZE), seed=0).train()
    network = torch.nn.Sequential(method.backbone, method.projector)
    criterion = NTXentLoss(temperature=TAU)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    loader = DataLoader(
        Pictures(images), BATCH, shuffle=True, drop_last=True, num_workers=loaders, persistent_workers=loaders > 0
    )

    def epoch() -> float:
        began = time.perf_counter()
        for first, second in loader:
            loss = criterion(network(first), network(second))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return epoch


def check_parity() -> None:
    a, b = torch.randn(2, 16, 8)
    torch.testing.assert_close(nt_xent(a, b, TAU), NTXentLoss(temperature=TAU)(a, b), rtol=1e-5, atol=1e-5)


def measure(backbone: str, images: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    """Images per second of each arm at each repeat."""
    arms = {"raydistill": ours(backbone, images)}
    arms |= {f"lightly, {n} loaders": lightlys(backbone, images, n) for n in (0, 2)}
    speeds: dict[str, list[float]] = {arm: [] for arm in arms}
    for repeat in range(repeats + 1):
        for arm, epoch in arms.items():
            seconds = epoch()
            if repeat:
                speeds[arm].append(len(images) / seconds)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(THREADS)
    check_parity()
    images = natural_noise(4 * BATCH if quick else 12 * BATCH)
    ratios = {}
    for backbone in BACKBONES:
        speeds = measure(backbone, images, MIN_REPEATS if quick else 5)
        figures = {arm: spread(values) for arm, values in speeds.items()}
        for arm, figure in figures.items():
            print(f"{backbone:13} {arm:19} {figure} images/s")
        fastest = max((arm for arm in speeds if arm != "raydistill"), key=lambda arm: figures[arm].value)
        ratios[backbone] = ratio(speeds["raydistill"], speeds[fastest])
    print(
        json.dumps(as_json({"simclr_vs_lightly": ratios["resnet18"], "simclr_vs_lightly_tiny": ratios["resnet10_w16"]}))
    )


if __name__ == "__main__":
    main()

"""What one augmented view costs: SimCLR's recipe at 32 px through PIL, torchvision, kornia and raydistill.

    python analysis/benchmarks/augment.py [--quick]

Every arm makes two views of the same 256 images of 32 px (noise with a natural image's 1/f spectrum), cropped,
jittered, greyed, flipped and normalised, as one float batch. PIL and torchvision's v2 transforms go image by image,
since a batched call of theirs draws one set of parameters for all; kornia and raydistill take the batch. All run
in this process with two threads, the arms in turn within each repeat; the first repeat warms up and is dropped.
Before the clock starts, the arms' pixels are compared: they must follow the same distribution.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable

import kornia.augmentation as kornia
import torch
from measure import ratio, spread
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from raydistill.data.views.augment import View, augment, normalization
from raydistill.data.views.recipes import RECIPES

SIZE, THREADS, VIEWS = 32, 2, 2
MEAN, STD = normalization("cifar10", SIZE)
RECIPE = RECIPES["simclr"]
Arm = Callable[[Tensor, int], Tensor]


def natural_noise(count: int) -> Tensor:
    """(count, 3, SIZE, SIZE) uint8 whose amplitude falls as 1 / frequency, with correlated channels."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.fftfreq(SIZE)[None]).clamp(min=1 / SIZE)
    white = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    white += 2 * torch.randn(count, 1, SIZE, SIZE, generator=generator)
    pink = torch.fft.ifft2(torch.fft.fft2(white) / frequency).real
    pink = (pink - pink.mean((2, 3), keepdim=True)) / pink.std((2, 3), keepdim=True)
    return (128 + 50 * pink).clamp(0, 255).to(torch.uint8)


def pil_arm(images: Tensor) -> Arm:
    """torchvision's first transforms on PIL images, as most of the published code has it."""
    pictures = [v1.functional.to_pil_image(image) for image in images]
    pipeline = v1.Compose(
        [
            v1.RandomResizedCrop(SIZE, RECIPE.scale, RECIPE.ratio),
            v1.RandomApply([v1.ColorJitter(*RECIPE.jitter)], RECIPE.jitter_p),
            v1.RandomGrayscale(RECIPE.gray_p),
            v1.RandomHorizontalFlip(RECIPE.flip_p),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    return lambda _, draw: torch.stack([pipeline(picture) for picture in pictures])


def torchvision_arm() -> Arm:
    """torchvision's v2 transforms, one uint8 tensor at a time."""
    pipeline = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, RECIPE.scale, RECIPE.ratio, antialias=True),
            v2.RandomApply([v2.ColorJitter(*RECIPE.jitter)], RECIPE.jitter_p),
            v2.RandomGrayscale(RECIPE.gray_p),
            v2.RandomHorizontalFlip(RECIPE.flip_p),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return lambda images, draw: torch.stack([pipeline(image) for image in images])


def kornia_arm() -> Arm:
    """kornia's batched augmentations, parameters drawn per image."""
    pipeline = torch.nn.Sequential(
        kornia.RandomResizedCrop((SIZE, SIZE), RECIPE.scale, RECIPE.ratio),
        kornia.ColorJitter(*RECIPE.jitter, p=RECIPE.jitter_p),
        kornia.RandomGrayscale(p=RECIPE.gray_p),
        kornia.RandomHorizontalFlip(p=RECIPE.flip_p),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    return lambda images, draw: pipeline(images.float() / 255)


def our_arm() -> Arm:
    """raydistill's stream."""
    return lambda images, draw: augment(
        images, range(len(images)), View("simclr", draw), size=SIZE, seed=0, epoch=0, normalize=(MEAN, STD)
    )


def check_parity(arms: dict[str, Arm], images: Tensor) -> None:
    """Stop if an arm's pixels differ in mean or spread from PIL's by more than 0.1 standard deviations."""
    moments = {}
    for name, arm in arms.items():
        pixels = torch.cat([arm(images, draw) for draw in range(4)])
        moments[name] = (pixels.mean().item(), pixels.std().item())
        print(f"  {name:12s} mean {moments[name][0]:+.3f}, standard deviation {moments[name][1]:.3f}")
        if max(abs(a - b) for a, b in zip(moments[name], moments["pil"], strict=True)) > 0.1:
            raise SystemExit(f"{name}: pixels do not follow PIL's distribution; the comparison would be unfair")


def measure(arms: dict[str, Arm], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Milliseconds per image and view, `repeats` per arm."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            for draw in range(VIEWS):
                arm(images, VIEWS * repeat + draw)
            times[name].append(1000 * (time.perf_counter() - start) / (VIEWS * len(images)))
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    """Compare, print a table and, as the last line, the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 images instead of 256")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(__doc__)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    images = natural_noise(64 if options.quick else 256)
    arms = {"pil": pil_arm(images), "torchvision": torchvision_arm(), "kornia": kornia_arm(), "ours": our_arm()}
    print(f"{datetime.date.today()}, torch {torch.__version__}, {len(images)} images. Pixels of each arm:")
    check_parity(arms, images)
    times = measure(arms, images, options.repeats)
    figures = {name: spread(values) for name, values in times.items()}
    print("\nms per image and view:  median     min     max   ours is faster by")
    for name, values in times.items():
        shown = " ".join(f"{number:7.4f}" for number in figures[name])
        print(f"  {name:20s} {shown}   {ratio(values, times['ours'])}")
    result = {
        "augment_ms_per_view": {name: round(figure.value, 5) for name, figure in figures.items()},
        "augment_ms_per_view_spread": {
            name: [round(figure.low, 5), round(figure.high, 5)] for name, figure in figures.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

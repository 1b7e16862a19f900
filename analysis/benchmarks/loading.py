"""Images per second from JPEG files to batches: here, and with torchvision's `ImageFolder` in torch's `DataLoader`.

    python analysis/benchmarks/loading.py [--quick] [--images 20000] [--folder DIR]

The images are 500x375 JPEGs of about 90 kB (noise with a natural image's spectrum), each another, in 20 classes. All
arms make batches of 64 at 224 px: SimCLR's two views (crop, mirror, jitter, grey, blur, as SimCLR's paper has them), or
one view of the crop and the mirror alone. The DataLoader has one process for each core and torchvision's transforms on
Pillow's images; here one process has one thread for each core, and decodes anew, or reads what it has decoded to disk
(`data.disk_cache_gib`), as it is or reduced to a short side of 256 (`data.resize`). The arms take turns with some
batches each; the first turn warms up and is dropped. webdataset and datasets join where they are installed.

Before the clock starts, batches by address are compared, bit for bit: of one worker, of two, and of another process.
At the end: memory of each arm (proportional set size of its processes), and what an image costs in a folder with a
tenth of the images.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
from measure import MIN_REPEATS, Spread, as_json, ratio, spread
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.data.stream import Stream
from raydistill.data.views.augment import View, normalization
from raydistill.machine import usable_cores

SIZE, BATCH, CLASSES, WIDTH, HEIGHT, QUALITY = 224, 64, 20, 500, 375, 92
MEAN, STD = normalization("", SIZE)
CORES = max(1, int(usable_cores()))
AHEAD = 2 * CORES + 2  # batches that an arm makes while the others have their turn
KEPT = {"disk_cache_gib": 100}
VIEWS = {"two views": (View("simclr", 0), View("simclr", 1)), "plain view": (View("rrcflip", 0),)}
Batches = Generator[int]
"""Makes a batch when asked for the next one, and says how many images it has."""


def write_images(folder: Path, count: int) -> None:
    """Write that many JPEGs, the same ones each time; what is there already stays."""
    side = 2048
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))).clip(1 / side)
    planes = [np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / frequency).real for _ in range(3)]
    planes = [planes[0] + 0.3 * each for each in planes]
    canvas = np.stack([(128 + 55 * (each - each.mean()) / each.std()).clip(0, 255) for each in planes], 2)
    canvas = canvas.astype(np.uint8)

    def write(number: int) -> None:
        file = folder / "train" / f"{number % CLASSES:02}" / f"{number:06}.jpg"
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        own = np.random.default_rng(number)
        top, left = own.integers(0, side - HEIGHT), own.integers(0, side - WIDTH)
        part = canvas[top : top + HEIGHT, left : left + WIDTH, own.permutation(3)]
        Image.fromarray(part[:, :: own.choice((-1, 1))]).save(file, quality=QUALITY)

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(write, range(count)))
    write_shards(folder, folder.with_name(f"{folder.name}-shards"))


def write_shards(folder: Path, shards: Path) -> None:
    """The same files in eight tar files, their order mixed, as WebDataset wants them."""
    if shards.exists():
        return
    files = sorted((folder / "train").glob("*/*.jpg"), key=lambda file: hashlib.sha256(file.name.encode()).digest())
    shards.mkdir()
    for number in range(8):
        with tarfile.open(shards / f"{number}.tar", "w") as archive:
            for file in files[number::8]:
                archive.add(file, file.name)


class TwoViews:
    """SimCLR's transforms on Pillow's images, twice."""

    def __init__(self) -> None:
        self.once = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, scale=(0.08, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.RandomApply([transforms.GaussianBlur(23, (0.1, 2.0))], 0.5),
                *_finish(),
            ]
        )

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        return self.once(image), self.once(image)


def _finish() -> list[object]:
    return [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


def plain() -> transforms.Compose:
    return transforms.Compose(
        [transforms.RandomResizedCrop(SIZE, scale=(0.2, 1.0)), transforms.RandomHorizontalFlip(), *_finish()]
    )


TRANSFORMS: dict[str, Callable[[], object]] = {"two views": TwoViews, "plain view": plain}


def of_torch(folder: Path, views: str) -> Batches:
    """ImageFolder and DataLoader, an endless run of epochs."""
    found = datasets.ImageFolder(str(folder / "train"), TRANSFORMS[views]())
    loader = DataLoader(found, BATCH, shuffle=True, drop_last=True, num_workers=CORES, persistent_workers=True)
    while True:
        for batch, _ in loader:
            yield len(batch[0] if isinstance(batch, list) else batch)


def of_webdataset(folder: Path, views: str) -> Batches:
    """The same files in WebDataset's shards, with its own decoder and shuffle."""
    import webdataset

    made = TRANSFORMS[views]()
    shards = sorted(map(str, folder.with_name(f"{folder.name}-shards").glob("*.tar")))
    data = webdataset.WebDataset(shards, shardshuffle=len(shards), nodesplitter=None, empty_check=False)
    data = data.shuffle(1000).decode("pil").to_tuple("jpg").map_tuple(made).batched(BATCH, partial=False)
    loader = DataLoader(data, None, num_workers=CORES, persistent_workers=True)
    while True:
        for (batch,) in loader:
            yield BATCH if isinstance(batch, list | tuple) else len(batch)


def of_datasets(folder: Path, views: str) -> Batches:
    """The Hub's `datasets` on the same folder."""
    import datasets as hub

    made = TRANSFORMS[views]()
    found = hub.load_dataset("imagefolder", data_dir=str(folder), split="train").with_transform(
        lambda rows: {"view": [made(image.convert("RGB")) for image in rows["image"]]}
    )
    loader = DataLoader(found, BATCH, shuffle=True, drop_last=True, num_workers=CORES, persistent_workers=True)
    while True:
        for batch in loader:
            yield len(batch["view"][0] if isinstance(batch["view"], list) else batch["view"])


def stream(folder: Path, changes: dict[str, float], **where: int) -> Stream:
    """Batches of raydistill."""
    config = DataConfig(source=str(folder), image_size=SIZE, cache_gib=0, **changes)
    return Stream(
        load_dataset(config).train, size=SIZE, batch_size=BATCH, seed=0, normalize=(MEAN, STD), prefetch=2, **where
    )


def of_raydistill(folder: Path, views: str, changes: dict[str, float]) -> Batches:
    made, epoch = stream(folder, changes), 0
    while True:
        for _, indices in made.epoch(epoch, VIEWS[views]):
            yield len(indices)
        epoch += 1


ARMS: dict[str, Callable[[Path, str], Batches]] = {
    "DataLoader": of_torch,
    "raydistill": functools.partial(of_raydistill, changes={}),
    "raydistill, on disk": functools.partial(of_raydistill, changes=KEPT),
    "raydistill, on disk at 256": functools.partial(of_raydistill, changes={"resize": 256} | KEPT),
}


def digest(folder: Path, changes: dict[str, float]) -> str:
    """Of some batches by their address: of one worker, and checked against those of two."""
    whole, halves = stream(folder, changes), [stream(folder, changes, rank=rank, world=2) for rank in (0, 1)]
    found = hashlib.sha256()
    for epoch, step in ((0, 0), (1, 2)):
        views, indices = whole.batch(epoch, step, VIEWS["two views"])
        parts = [half.batch(epoch, step, VIEWS["two views"]) for half in halves]
        for view, batch in views.items():
            assert torch.equal(batch, torch.cat([part[view] for part, _ in parts])), "two workers make another batch"
            found.update(batch.contiguous().numpy().tobytes())
        found.update(indices.numpy().tobytes())
    return found.hexdigest()


def check_batches(folder: Path) -> None:
    """Compare batches between runs. Raises AssertionError."""
    for changes in ({}, KEPT, {"resize": 256}, {"resize": 256} | KEPT):
        own, other = digest(folder, changes), again("--folder", folder, "--digest", json.dumps(changes))
        assert own == other, f"another process makes other batches: {changes}"
    print("batches by address: equal in two workers and in another process, bit for bit")


def again(*words: object) -> str:
    """The last word that this script prints in a process of its own."""
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


def arms() -> dict[str, Callable[[Path, str], Batches]]:
    more = {"webdataset": of_webdataset, "datasets": of_datasets}
    return ARMS | {name: arm for name, arm in more.items() if importlib.util.find_spec(name)}


def seconds_per_image(made: Batches, batches: int) -> float:
    """Time some batches, after those that were made ahead while the others had their turn."""
    for _ in range(AHEAD):
        next(made)
    began, images = time.perf_counter(), 0
    for _ in range(batches):
        images += next(made)
    return (time.perf_counter() - began) / images


def in_turn(made: dict[str, Batches], repeats: int, batches: int) -> dict[str, list[float]]:
    """Images per second of each arm in each turn but the first."""
    speeds: dict[str, list[float]] = {name: [] for name in made}
    with ExitStack() as stack:
        for each in made.values():
            stack.enter_context(closing(each))
        for turn in range(repeats + 1):
            for name, each in made.items():
                seconds = seconds_per_image(each, batches)
                if turn:
                    speeds[name].append(1 / seconds)
    return speeds


def memory_mib(root: int) -> float:
    """Memory of a process and of all below it, what they share counted once; files that the system caches do not."""
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) / 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return total


def most_memory(made: Batches, batches: int) -> float:
    """The most MiB that an arm takes while it makes some batches."""
    most = 0.0
    for _ in range(batches):
        next(made)
        most = max(most, memory_mib(os.getpid()))
    return most


def compare(folder: Path, small: Path, repeats: int, batches: int) -> dict[str, Spread]:
    """Print what each arm does, and return the ratios."""
    ratios = {}
    for views in VIEWS:
        speeds = in_turn({name: arm(folder, views) for name, arm in arms().items()}, repeats, batches)
        for name, values in speeds.items():
            mib = again("--folder", folder, "--views", views, "--memory", name)
            times = ratio(values, speeds["DataLoader"])
            print(f"{views:11} {name:27} {spread(values)} images/s, {times} times, {float(mib):.0f} MiB", flush=True)
        word = "" if views == "two views" else "_plain"
        ratios[f"loading_vs_dataloader{word}"] = ratio(speeds["raydistill"], speeds["DataLoader"])
        ratios[f"loading_on_disk{word}"] = ratio(speeds["raydistill, on disk"], speeds["DataLoader"])
        ratios[f"loading_at_256{word}"] = ratio(speeds["raydistill, on disk at 256"], speeds["DataLoader"])
    sizes = {str(place): of_raydistill(place, "two views", {}) for place in (folder, small)}
    speeds = in_turn(sizes, repeats, batches)
    ratios["cost_of_ten_times_the_images"] = ratio(speeds[str(small)], speeds[str(folder)])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="640 images, few batches")
    parser.add_argument("--images", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--batches", type=int, help="of each arm in a turn [10]")
    parser.add_argument("--folder", type=Path, help="of the images, kept for the next run; else they go away")
    for name in ("--digest", "--memory", "--views"):  # for the processes that this script starts
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    count = given.images or (640 if given.quick else 20_000)
    repeats = given.repeats or (MIN_REPEATS if given.quick else 5)
    batches = given.batches or (1 if given.quick else 10)
    if given.digest:
        print(digest(given.folder, json.loads(given.digest)))
        return
    if given.memory:
        with closing(arms()[given.memory](given.folder, given.views)) as made:
            print(most_memory(made, AHEAD + batches))
        return
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["RAYDISTILL_CACHE"] = f"{temporary}/cache"
        folder = given.folder or Path(temporary)
        whole, small = folder / f"{count}", folder / f"{count // 10}"
        write_images(whole, count)
        write_images(small, count // 10)
        check_batches(whole)
        ratios = compare(whole, small, repeats, batches)
        print(json.dumps(as_json(ratios)))


if __name__ == "__main__":
    main()

"""What a teacher bank saves: SEED and SimReg epochs with the bank against the same epochs with the live teacher.

ResNet-50 teacher, ResNet-18 student, 32 px, the same fixed views, side by side in one run. The teacher's
weights are random, which changes no time. Last line: {"seed_speedup": ..., "simreg_speedup": ...}.

    python analysis/benchmarks/teacher_bank.py [--data DIR_OF_CIFAR10] [--images 256] [--quick]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from measure import Spread, as_json, ratio, spread

from raydistill import config as configuration
from raydistill.artifacts import teachers
from raydistill.artifacts.store import Store
from raydistill.data.sources import Dataset, load_dataset
from raydistill.data.views.augment import normalization
from raydistill.models.backbones import Backbone
from raydistill.models.teacher import FrozenTeacher, save_teacher
from raydistill.options.base import Stem
from raydistill.training.messages import JoinRequest
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

SIZE, BATCH = 32, 64
METHODS = {
    "seed": {"hidden_dim": 512, "queue_size": 128, "teacher": "features"},
    "simreg": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a data set as `sweep.py --data` takes it, shown at 32 px")
    parser.add_argument("--images", type=int, default=256, help="training images")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs of each")
    parser.add_argument("--quick", action="store_true", help="tiny networks: a check that it runs, no measurement")
    arguments = parser.parse_args()
    student, teacher = ("resnet10_w4", "resnet10_w8") if arguments.quick else ("resnet18", "resnet50")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        data = {
            "source": arguments.data,
            "image_size": SIZE,
            "batch_size": BATCH,
            "limit": arguments.images,
            "fixed_views": 2,
        }
        dataset = load_dataset(configuration.DataConfig(**data))
        key = publish_random(store, teacher)
        print(
            f"{student} taught by {teacher}, {len(dataset.train)} images of {arguments.data}, "
            f"{torch.get_num_threads()} threads"
        )
        result = {}
        for name, options in METHODS.items():
            method = {"name": name, "backbone": student, "stem": "small", **options}
            values = {
                "method": method,
                "data": data,
                "train": {"epochs": 100},
                "teacher": {"sources": [f"artifact:{key}"]},
            }
            speedup = compare(name, values, store, dataset, arguments.repeats)
            result |= as_json({f"{name}_speedup": speedup}, 2)
        print(json.dumps(result))


def publish_random(store: Store, backbone: str, stem: Stem = "small") -> str:
    """A teacher with random weights. Returns: its key."""
    torch.manual_seed(0)
    net = Backbone(backbone, stem=stem, image_size=SIZE)
    own = normalization("", SIZE)

    def make(folder: Path) -> None:
        save_teacher(FrozenTeacher(net, None, own, own), folder / teachers.FILE, provenance={"weights": "random"})

    return store.get("teacher", {"random": backbone, "stem": stem}, make).name


def compare(name: str, values: dict, store: Store, dataset: Dataset, repeats: int) -> Spread:
    """The live epoch's time over the bank's; refuses if their losses differ by more than half precision explains."""
    packs = {}
    for bank in (False, True):
        config = configuration.load(configuration.assign(values, {"teacher.bank": bank}))
        packs[bank] = Pack(dataset, config.data, evaluate=lambda *_: {}, store=store, prefetch=0)
        report = packs[bank].add(JoinRequest(name, TrialSpec(config)))
        if report is not None:
            raise SystemExit(report.error)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    worst = 0.0
    for epoch in range(2 + repeats):  # the first two make the bank's pages and warm up
        losses = {}
        for bank, pack in packs.items():
            started = time.perf_counter()
            (report,) = pack.run_epoch()
            if report.error:
                raise SystemExit(report.error)
            losses[bank] = report.metrics["loss"]
            if epoch >= 2:
                seconds[bank].append(time.perf_counter() - started)
        worst = max(worst, abs(losses[True] / losses[False] - 1))
    live, banked = (spread(seconds[bank]) for bank in (False, True))
    print(f"{name}: live {live} s, bank {banked} s an epoch; losses differ by at most {worst:.1e} (relative)")
    if worst > 1e-2:
        raise SystemExit(f"{name}: the bank's losses are not the live teacher's")
    return ratio(seconds[False], seconds[True])


if __name__ == "__main__":
    main()

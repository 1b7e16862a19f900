"""What sharing saves: a pack of SEED trials against the same trials run in other ways.

    python analysis/benchmarks/packs.py [--data DIR_OF_CIFAR10] [--student resnet18] [--trials 16] [--quick]

Each trial: a frozen ResNet-50, a student of its own, images of 32 px decoded beforehand, temperatures of its own.

1. pack: all trials side by side, images and teacher once for all;
2. serial: the same software, one trial after the other, each a pack of one;
3. students only: all learners on batches and teacher's embeddings that lie ready: the least that a pack can cost;
4. torchtrainer: Ray Tune with one `TorchTrainer` per trial, two at a time, one thread each;
5. lightly: Ray Tune over the loop that lightly's users write (its transform in a `DataLoader`, its memory bank,
   torchvision's networks, a frozen teacher), two at a time, one thread each.

Arms 1 to 3 take turns, with as many threads as cores; a turn is some epochs of all trials, and nothing is
evaluated. Arms 4 and 5 run some of the trials and are scaled to all. Before the clock starts, the pack's weights are
compared with those of a trial alone, bit for bit. With --evaluate the pack and the serial arm also score every
epoch by k-NN, as a sweep does. Last line: times of the others divided by the pack's ("pack_vs_students_only": the
students' share of the pack's time).
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import MIN_REPEATS, Spread, as_json, in_turn, ratio, spread
from teacher_bank import publish_random
from torch import Tensor

from raydistill import config as configuration
from raydistill.artifacts.store import Store
from raydistill.data.sources import Dataset, load_dataset
from raydistill.evaluation.online import evaluate as knn
from raydistill.training.messages import JoinRequest
from raydistill.training.pack import Evaluate, Pack, Scores
from raydistill.training.teachers import LoadedTeachers
from raydistill.trial_spec import TrialSpec

SIZE = 32
CONCURRENT = 2


class Bench:
    """The trials, and the time of an epoch of all of them in each arm."""

    def __init__(
        self, dataset: Dataset, data: dict[str, Any], store: Store, key: str, student: str, trials: int
    ) -> None:
        self.dataset, self.data, self.store = dataset, data, store
        self.teachers: LoadedTeachers = {}
        self.values = [
            {
                "method": {
                    "name": "seed",
                    "backbone": student,
                    "stem": "imagenet" if student == "resnet18" else "auto",
                    "teacher": "features",
                    "queue_size": 128,
                    "tau_t": 0.01 * (1 + i),
                    "tau_s": 0.1 + 0.02 * i,
                },
                "data": data,
                "teacher": {"sources": [f"artifact:{key}"]},
                "train": {"epochs": 1000, "lr": 1e-3},
            }
            for i in range(trials)
        ]

    def pack(self, members: range) -> Pack:
        config = configuration.load(self.values[0])
        pack = Pack(self.dataset, config.data, evaluate=no_scores, store=self.store, prefetch=0, teachers=self.teachers)
        for i in members:
            report = pack.add(JoinRequest(str(i), TrialSpec(configuration.load(self.values[i]))))
            if report is not None:
                raise SystemExit(report.error)
        return pack

    def everything(self) -> range:
        return range(len(self.values))

    def check(self) -> None:
        """Trial 1 in company and alone has the same weights."""
        together, alone = self.pack(range(min(3, len(self.values)))), self.pack(range(1, 2))
        for pack in (together, alone):
            pack.run_epoch()
        states = [pack.learners["1"].method.state_dict() for pack in (together, alone)]
        if not all(torch.equal(states[0][name], states[1][name]) for name in states[0]):
            raise SystemExit("the trial in company is not the trial alone")

    def arms(self, *, scored: bool) -> dict[str, Callable[[], None]]:
        """The first three arms; `scored`: pack and serial also with k-NN."""
        together, apart = self.pack(self.everything()), [self.pack(range(i, i + 1)) for i in self.everything()]

        def all_of(packs: list[Pack], evaluate: Evaluate) -> Callable[[], None]:
            def epoch() -> None:
                for pack in packs:
                    pack.evaluate = evaluate
                    run(pack)

            return epoch

        arms = {
            "pack": all_of([together], no_scores),
            "serial": all_of(apart, no_scores),
            "students": self.students_only(),
        }
        if scored:
            arms |= {"pack, scored": all_of([together], knn), "serial, scored": all_of(apart, knn)}
        return arms

    def students_only(self) -> Callable[[], None]:
        pack = self.pack(self.everything())
        views = dict.fromkeys(view for learner in pack.learners.values() for view in learner.views)
        ready = []
        for drawn, indices in pack.stream.epoch(0, views):
            step = pack.provider.step(drawn, indices, 0)
            for learner in pack.learners.values():
                for teacher in learner.batch(step).teachers:
                    teacher(learner.method.large, "features")
            ready.append((drawn, indices, step._known))

        def epoch() -> None:
            for learner in pack.learners.values():
                learner.start_epoch()
            for drawn, indices, known in ready:
                step = pack.provider.step(drawn, indices, 0)
                step._known.update(known)
                for learner in pack.learners.values():
                    learner.train_step(learner.batch(step))

        return epoch


def no_scores(*_: Any) -> Scores:
    return {}


def run(pack: Pack) -> None:
    for report in pack.run_epoch():
        if report.error:
            raise SystemExit(report.error)


def train_alone(loop: dict[str, Any]) -> None:
    """One trial as the worker of a Ray Train run of its own."""
    from ray import train

    from raydistill.training.single import train as train_one

    torch.set_num_threads(1)
    spec = TrialSpec(configuration.load(loop["values"]))
    train_one(
        spec, None, evaluate=no_scores, store=Store(Path(loop["store"])), on_epoch=lambda r: train.report(r.metrics)
    )


def torchtrainer_trial(trial: dict[str, Any]) -> None:
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        train_alone,
        train_loop_config={"values": trial["values"], "store": trial["store"]},
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=trial["folder"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def lightly_trial(trial: dict[str, Any]) -> None:
    """SEED as one writes it with lightly: its MoCo v2 transform, its memory bank, torchvision's networks."""
    import torch.nn.functional as F
    import torchvision
    from lightly.models.modules.memory_bank import MemoryBankModule
    from lightly.transforms import MoCoV2Transform
    from ray import tune
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision.transforms.v2.functional import to_pil_image

    torch.set_num_threads(1)
    values = trial["values"]
    options = values["method"]
    images = torch.load(trial["images"], weights_only=True)
    pictures, transform = [to_pil_image(image) for image in images], MoCoV2Transform(input_size=SIZE, gaussian_blur=0.0)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> Tensor:
            return transform.transforms[0](pictures[index])

    def network(name: str) -> tuple[nn.Module, int]:
        if name.startswith("resnet10"):
            from raydistill.models.backbones import Backbone

            small = Backbone(name, stem="auto", image_size=SIZE)
            return small, small.dim
        net = getattr(torchvision.models, name)()
        width, net.fc = net.fc.in_features, nn.Identity()
        return net, width

    teacher, width = network("resnet50" if options["backbone"] == "resnet18" else trial["teacher"])
    student, dim = network(options["backbone"])
    head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, width))
    bank = MemoryBankModule(size=(options["queue_size"], width))
    parameters = [*student.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    teacher.eval().requires_grad_(False)
    loader = DataLoader(Pictures(), batch_size=values["data"]["batch_size"], shuffle=True, drop_last=True)
    for _ in range(values["train"]["epochs"]):
        for view in loader:
            with torch.no_grad():
                target = F.normalize(teacher(view), dim=1)
            embedded = F.normalize(head(student(view)), dim=1)
            _, queue = bank(target, update=True)
            own = (embedded * target).sum(1, keepdim=True)
            logits = torch.cat([own, embedded @ queue], 1) / options["tau_s"]
            targets = torch.cat([torch.ones_like(own), target @ queue], 1) / options["tau_t"]
            loss = F.cross_entropy(logits, targets.softmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        tune.report({"loss": float(loss.detach())})


def tuned_seconds(function: Any, bench: Bench, folder: Path, trials: int, epochs: int, extra: dict[str, Any]) -> float:
    """Seconds per trial of a Tune function, two at a time."""
    from ray import tune

    values = [configuration.assign(bench.values[i], {"train.epochs": epochs}) for i in range(trials)]
    same = {"store": str(bench.store.root), "folder": str(folder), **extra}
    began = time.perf_counter()
    results = tune.Tuner(
        tune.with_resources(function, {"CPU": 0.01}),
        param_space={"values": tune.grid_search(values), **same},
        tune_config=tune.TuneConfig(max_concurrent_trials=CONCURRENT),
        run_config=tune.RunConfig(name=function.__name__, storage_path=str(folder), verbose=0),
    ).fit()
    failed = [result.error for result in results if result.error]
    if failed:
        raise SystemExit(f"{len(failed)} of {trials} trials failed: {failed[0]}")
    return (time.perf_counter() - began) / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a data set as `sweep.py --data` takes it, shown at 32 px")
    parser.add_argument("--student", default="resnet18", help="for a tiny one resnet10_w16")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--images", type=int, default=512, help="training images")
    parser.add_argument("--epochs", type=int, default=4, help="of each trial in arms 4 and 5")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--some", type=int, default=4, help="trials that arms 4 and 5 really run; 0 leaves them out")
    parser.add_argument("--evaluate", action="store_true", help="also time pack and serial with k-NN every epoch")
    parser.add_argument("--quick", action="store_true", help="tiny networks: a check that it runs, no measurement")
    given = parser.parse_args()
    student, teacher = (given.student, "resnet50") if not given.quick else ("resnet10_w4", "resnet10_w8")
    trials, images, repeats, epochs = (
        (3, 128, MIN_REPEATS, 1) if given.quick else (given.trials, given.images, given.repeats, given.epochs)
    )
    # A quarter more, since a fifth of the training images is for validation.
    data = {
        "source": given.data,
        "image_size": SIZE,
        "batch_size": 64 if given.quick else 128,
        "limit": images * 5 // 4,
    }
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "store")
        key = publish_random(store, teacher, stem="imagenet" if teacher == "resnet50" else "small")
        bench = Bench(load_dataset(configuration.DataConfig(**data)), data, store, key, student, trials)
        bench.check()
        seconds = in_turn(bench.arms(scored=given.evaluate), repeats)
        steps = len(bench.dataset.train) // data["batch_size"]
        print(
            f"{trials} trials of {student} taught by {teacher}, {steps * data['batch_size']} images an epoch, "
            f"{torch.get_num_threads()} threads"
        )
        for arm, values in seconds.items():
            each = spread(values)
            print(f"{arm:15} {each} s an epoch of all trials, {trials / each.value * 3600:,.0f} trial-epochs an hour")
        result = {
            "pack_vs_serial": ratio(seconds["serial"], seconds["pack"]),
            "pack_vs_students_only": ratio(seconds["students"], seconds["pack"]),
        }
        if given.evaluate:
            result["scored_pack_vs_serial"] = ratio(seconds["serial, scored"], seconds["pack, scored"])
        if given.some:
            pack = [value / trials for value in seconds["pack"]]
            result |= others(bench, Path(name), min(given.some, trials), epochs, teacher, pack)
    print(json.dumps(as_json(result, 2)))


def others(bench: Bench, folder: Path, trials: int, epochs: int, teacher: str, pack: list[float]) -> dict[str, Spread]:
    """Arms 4 and 5, by the trial-epoch; `pack` is the pack's seconds for one."""
    import ray

    pixels = folder / "images.pt"
    torch.save(bench.dataset.train.fetch(range(len(bench.dataset.train)))[0], pixels)
    ray.init(
        address="local", num_cpus=CONCURRENT, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    found = {}
    for name, function in (("torchtrainer", torchtrainer_trial), ("lightly_tune", lightly_trial)):
        extra = {"images": str(pixels), "teacher": teacher}
        each = [
            tuned_seconds(function, bench, folder / str(repeat), trials, epochs, extra) / epochs
            for repeat in range(MIN_REPEATS)
        ]
        print(
            f"{name:15} {spread(each)} s a trial-epoch ({trials} trials of {epochs} epochs, {CONCURRENT} at a time); "
            f"the pack {spread(pack)} s"
        )
        found[f"pack_vs_{name}"] = ratio(each, pack)
    ray.shutdown()
    return found


if __name__ == "__main__":
    main()

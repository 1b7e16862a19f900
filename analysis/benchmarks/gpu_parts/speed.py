"""Where the time goes: parts of an epoch, a single run beside a plain loop, packs, neighbours."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measure import MIN_REPEATS, as_json, in_turn, ratio, spread
from torch import nn

from gpu_parts.setting import SIZE, Setting
from raydistill.evaluation.knn import by_faiss, by_products
from raydistill.evaluation.online import evaluate as score
from raydistill.training.devices import Clock
from raydistill.training.learner import Learner
from raydistill.training.member import Member
from raydistill.training.pack import Pack


def rate_of_products(setting: Setting) -> dict[str, float]:
    """TFLOP per second of a large matrix product in bf16, the ceiling of all that follows."""
    n = 8192 if setting.large else 256
    a, b = (torch.randn(n, n, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = in_turn({"product": lambda: a @ b}, MIN_REPEATS, steps=10, settle=setting.settle)
    return {"tflops": 2 * n**3 / spread(seconds["product"]).value / 1e12}


class _Watch:
    """Host and device seconds of calls, by name."""

    def __init__(self, setting: Setting) -> None:
        self._clock = Clock(setting.device)
        self._host: dict[str, float] = {}
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    @contextlib.contextmanager
    def on(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Watch the calls of a method in this block."""
        honest = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            began, mark = time.perf_counter(), self._clock.mark()
            try:
                return honest(*given, **named)
            finally:
                self._spans.setdefault(part, []).append((mark, self._clock.mark()))
                self._host[part] = self._host.get(part, 0.0) + time.perf_counter() - began

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, honest)

    def table(self) -> dict[str, dict[str, float]]:
        """Seconds of the host and of the device, and the number of calls."""
        return {
            part: {"host_s": self._host[part], "device_s": self._clock.seconds(spans), "calls": len(spans)}
            for part, spans in self._spans.items()
        }


def parts_of_an_epoch(setting: Setting) -> dict[str, Any]:
    """Seconds of views, teacher, steps, scores and checkpoints in one epoch of a pack of four SEED learners."""
    configs = [setting.config(setting.seed | {"backbone": setting.students[0]}, seed=seed) for seed in range(4)]
    pack = setting.pack(configs, evaluate=score, directory=setting.folder / "parts", prefetch=0)  # parts one by one
    _checked(pack)
    watch = _Watch(setting)
    with contextlib.ExitStack() as stack:
        for owner, name, part in (
            (pack.stream, "_drawn", "views"),
            (pack.provider, "embed", "teacher"),
            (Learner, "train_step", "steps"),
            (pack, "evaluate", "scores"),
            (Member, "begin_checkpoint", "checkpoints begun"),
            (Member, "finish_checkpoint", "checkpoints finished"),
        ):
            stack.enter_context(watch.on(owner, name, part))
        setting.settle()
        began = time.perf_counter()
        _checked(pack)
        setting.settle()
        whole = time.perf_counter() - began
    assert pack.load is not None
    return {"epoch_s": whole, "training_s": pack.load.seconds, "learners": len(configs)} | watch.table()


def single_run(setting: Setting) -> dict[str, Any]:
    """Images per second of SimCLR, here and in a plain loop with torchvision's transforms in a DataLoader."""
    name = setting.students[0]
    pack = setting.pack([setting.config({"name": "simclr", "backbone": name})])
    plain = _PlainLoop(setting, name)
    arms = {"here": lambda: _checked(pack), "plain": plain.epoch}
    seconds = in_turn(arms, MIN_REPEATS, settle=setting.settle)
    images = pack.stream.steps_per_epoch * setting.batch
    found: dict[str, Any] = {f"{arm}_images_s": images / spread(values).value for arm, values in seconds.items()}
    return found | as_json({"here_vs_plain": ratio(seconds["plain"], seconds["here"])})


class _PlainLoop:
    """SimCLR as one would write it: images in memory, transforms on Pillow's images, autocast, one optimizer."""

    def __init__(self, setting: Setting, name: str) -> None:
        from torch.utils.data import DataLoader
        from torchvision import transforms

        from raydistill.models.backbones import Backbone

        one = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomResizedCrop(SIZE, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )
        train = setting.dataset.train
        images = [train.peek(index) for index in range(len(train))]

        class Pairs(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return len(images)

            def __getitem__(self, index: int) -> Any:
                return one(images[index]), one(images[index])

        workers = 8 if setting.large else 0
        self._loader = DataLoader(
            Pairs(),
            setting.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=setting.large,
        )
        net = Backbone(name, stem="small", image_size=SIZE)
        head = nn.Sequential(nn.Linear(net.dim, net.dim), nn.ReLU(), nn.Linear(net.dim, 128))
        self._model = nn.Sequential(net, head).to(setting.device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3, fused=True)
        self._device = setting.device

    def epoch(self) -> None:
        for pair in self._loader:
            views = torch.cat(pair).to(self._device, non_blocking=True, memory_format=torch.channels_last)
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
                rows = nn.functional.normalize(self._model(views).float(), dim=1)
            half = len(rows) // 2
            likeness = (rows @ rows.T / 0.2).fill_diagonal_(-torch.inf)
            other = torch.arange(2 * half, device=self._device).roll(half)
            loss = nn.functional.cross_entropy(likeness, other)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()


def packs(setting: Setting) -> dict[str, Any]:
    """Trial-epochs an hour of packs of 1, 4 and 16 SimCLR learners, how many times a serial run's, and their memory."""
    found: dict[str, Any] = {}
    for name in setting.students:
        alone: list[float] = []
        for count in (1, 4, 16) if setting.large else (1, 2):
            pack = setting.pack([setting.config({"name": "simclr", "backbone": name}, seed=i) for i in range(count)])
            if setting.large:
                torch.cuda.reset_peak_memory_stats(setting.device)
            (seconds,) = in_turn(
                {"epoch": lambda pack=pack: _checked(pack)}, MIN_REPEATS, settle=setting.settle
            ).values()
            alone = alone or seconds
            each = spread(seconds).value / count
            key = f"{name}, {count}"
            found[key] = {"trial_epochs_per_hour": 3600 / each, "times_serial": spread(alone).value / each}
            if setting.large:
                found[key]["gib"] = torch.cuda.max_memory_allocated(setting.device) / 2**30
    return found


def compiled_steps(setting: Setting) -> dict[str, Any]:
    """Times faster: the same learner with its network compiled by torch."""
    if not setting.large:
        return {"compiled": "on a GPU only"}
    found: dict[str, Any] = {}
    for name in setting.students:
        made = {
            arm: setting.pack([setting.config({"name": "simclr", "backbone": name})]) for arm in ("now", "compiled")
        }
        for module in made["compiled"].learners["0"].method.children():
            module.compile()
        arms: dict[str, Callable[[], object]] = {arm: lambda pack=pack: _checked(pack) for arm, pack in made.items()}
        seconds = in_turn(arms, MIN_REPEATS, settle=setting.settle)
        found |= as_json({name: ratio(seconds["now"], seconds["compiled"])})
    return found


def processes(setting: Setting) -> dict[str, Any]:
    """Epochs of a narrow learner in 1, 2 and 4 processes that share the card: times one process's rate."""
    if not setting.large:
        return {"processes": "on a GPU only"}
    context = torch.multiprocessing.get_context("spawn")
    rates = {}
    for count in (1, 2, 4):
        barrier, answers = context.Barrier(count), context.Queue()
        given = (setting.folder, setting.data, barrier, answers)
        started = [context.Process(target=_alone, args=(*given, number)) for number in range(count)]
        for each in started:
            each.start()
        seconds = [answers.get(timeout=120) for _ in started]
        for each in started:
            each.join()
        rates[count] = count / max(seconds)
    return {f"{count} processes": rate / rates[1] for count, rate in rates.items()}


def _alone(folder: Path, data: str, barrier: Any, answers: Any, number: int) -> None:
    """Seconds of two epochs in a process of its own, begun with the others."""
    setting = Setting(torch.device("cuda"), folder / f"process-{number}", data)
    pack = setting.pack([setting.config({"name": "simclr", "backbone": setting.students[-1]}, seed=number)])
    _checked(pack)
    setting.settle()
    barrier.wait(100)
    began = time.perf_counter()
    for _ in range(2):
        _checked(pack)
    setting.settle()
    answers.put(time.perf_counter() - began)


def neighbours(setting: Setting) -> dict[str, Any]:
    """Seconds of k-NN: products on the device, faiss and products on the CPU; the neighbours must agree."""
    rows, queries, width = (50_000, 10_000, 512) if setting.large else (200, 50, 16)
    drawn = torch.Generator().manual_seed(0)
    bank, asked = (
        nn.functional.normalize(torch.randn(count, width, generator=drawn), dim=1) for count in (rows, queries)
    )
    there = bank.to(setting.device), asked.to(setting.device)
    arms: dict[str, Callable[[], Any]] = {
        "device": lambda: by_products(*there, 20),
        "cpu products": lambda: by_products(bank, asked, 20),
    }
    if importlib.util.find_spec("faiss"):
        arms["cpu faiss"] = lambda: by_faiss(bank, asked, 20)
    same = (arms["device"]()[1].cpu() == arms["cpu products"]()[1]).float().mean().item()
    assert same > 0.999, f"neighbours agree in {same:.4f}"
    seconds = in_turn(arms, MIN_REPEATS, settle=setting.settle)
    return {"agree": same} | {name: spread(values).value for name, values in seconds.items()}


def stream_alone(setting: Setting) -> dict[str, Any]:
    """Milliseconds of host and device that a batch of SimCLR's two views takes, nothing else running."""
    pack = setting.pack([setting.config({"name": "simclr", "backbone": setting.students[-1]})])
    views = dict.fromkeys(pack.learners["0"].views)
    clock, host, spans = Clock(setting.device), [], []
    for step in range(min(20, pack.stream.steps_per_epoch)):
        setting.settle()
        began, mark = time.perf_counter(), clock.mark()
        pack.stream.batch(0, step, views)
        host.append(time.perf_counter() - began)
        spans.append((mark, clock.mark()))
    settled = slice(min(3, len(host) - 1), None)
    count = len(host[settled])
    return {"host_ms": 1000 * sum(host[settled]) / count, "device_ms": 1000 * clock.seconds(spans[settled]) / count}


def _checked(pack: Pack) -> None:
    """Run an epoch. Raises RuntimeError if a learner fails."""
    failed = [report.error for report in pack.run_epoch() if report.error]
    if failed:
        raise RuntimeError(failed[0])

"""Step benchmark: a few real steps of a configuration, timed before a sweep is started.

The images are a sample of the real ones, repeated to the full number; teachers that are still to be trained
stand in untrained. All of it lives in a temporary folder, and the user's store is only read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raydistill.artifacts.store import Store
from raydistill.config import Config, DataConfig
from raydistill.data.images import Images
from raydistill.data.sources import Dataset, load_dataset
from raydistill.data.stream import Stream
from raydistill.data.views.augment import View, normalization
from raydistill.options import Output
from raydistill.planning.prepare import promised
from raydistill.planning.resolve import teacher_keys
from raydistill.sweep.preflight.samples import sampled_dataset, stock_teachers
from raydistill.training.checkpoints import write_checkpoint
from raydistill.training.distributed import Workers
from raydistill.training.learner import Learner, NonFiniteError
from raydistill.training.member import scored_encoders
from raydistill.training.pack import Candidate, Evaluate
from raydistill.training.teachers import PLAIN, LearnerInputs, TeacherProvider

SMALL = 16  # images of the first, cautious step
MIN_STEPS, MAX_STEPS = 2, 30  # timed steps


@dataclass(frozen=True)
class StepTimings:
    """Seconds that the parts of a configuration's training take on this machine.

    A step of a pack of k learners takes `shared_seconds` (images and running teachers) once and
    `learner_seconds` k times. Beside a GPU a pack prepares images while it trains, so there it takes at most
    that. Every learner pays `evaluation_seconds` at each scoring and `checkpoint_seconds` at each epoch;
    `start_seconds` (opening and decoding the images, building the networks) and `prepare_seconds` (filling the
    teacher bank; grouping into pseudo labels is left out) are paid once. `parameters` counts those trained.
    """

    shared_seconds: float
    learner_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    start_seconds: float
    prepare_seconds: float
    steps_per_epoch: int
    checkpoint_bytes: int
    parameters: int
    teachers_missing: tuple[MissingTeacher, ...] = ()


@dataclass(frozen=True)
class MissingTeacher:
    """A teacher that has to be trained first: its key in the store, for how long, and how fast."""

    key: str
    epochs: int
    timings: StepTimings


def benchmark_step(
    config: Config,
    store: Store,
    *,
    evaluate: Evaluate,
    seconds: float = 10,
    workers: int = 1,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> StepTimings:
    """Train a few steps in this process, for about `seconds`, and score the result on a few images.

    The time is not a limit: at least two steps are timed, and what a step loads first is loaded. A batch too
    large for the time is measured in part and scaled.

    Args:
        config: what to train.
        store: where teachers are looked for; nothing is written to it.
        evaluate: scores a learner.
        seconds: about this long.
        workers: of the pack; one worker's share of the batch is measured, without communication.
        device: None: a GPU if there is one.
        threads: of torch; None: unchanged.

    Raises:
        ValueError: (ConfigError, DataError, ArtifactError) the configuration cannot be trained.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory(prefix="raydistill-timings-") as folder, _threads(threads):
        began = time.perf_counter()
        dataset = load_dataset(config.data)
        sample, decoding = sampled_dataset(config.data, dataset)
        probe = _StepBenchmark(dataset, sample, Store(Path(folder) / "artifacts"), evaluate, device, workers)
        opening = time.perf_counter() - began + decoding
        absent = stock_teachers(config, store, probe.store, probe.dataset)
        kinds = {but_seed(recipe): recipe for recipe in absent.values()}
        share = seconds / (1 + len(kinds))
        paces = {kind: probe.timings(recipe, share, opening) for kind, recipe in kinds.items()}
        missing = [MissingTeacher(key, r.train.epochs, paces[but_seed(r)]) for key, r in absent.items()]
        return replace(probe.timings(config, share, opening), teachers_missing=tuple(missing))


def settled(samples: Sequence[float], tolerance: float = 0.05) -> bool:
    """Return whether the medians of the first and the second half, three samples or more each, differ little."""
    half = len(samples) // 2
    if half < 3:
        return False
    first, second = statistics.median(samples[:half]), statistics.median(samples[half:])
    return abs(first - second) <= tolerance * max(first, second)


def affordable(share: int, small_seconds: float, seconds: float, small: int = SMALL) -> int:
    """Return the largest of `share`, its half, its quarter ..., that takes at most `seconds`, but at least `small`.

    Args:
        share: a worker's images of a batch.
        small_seconds: what `small` images take; more take longer in proportion.
        seconds: the limit.
        small: images of the first, cautious step.
    """
    while share // 2 >= small and share / small * small_seconds > seconds:
        share //= 2
    return share


@dataclass(frozen=True)
class _StepBenchmark:
    """`dataset` as it is, for its sizes; `sample` as long as it, for its images."""

    dataset: Dataset
    sample: Dataset
    store: Store
    evaluate: Evaluate
    device: torch.device
    workers: int

    def timings(self, config: Config, seconds: float, opening: float) -> StepTimings:
        """`opening` is what the data took, in seconds."""
        began = time.perf_counter()
        provider = _TimedTeacherProvider(self.store, self.sample, config.data, device=self.device, workers=Workers())
        steps = self._stream(config.data, config.data.batch_size).steps_per_epoch
        learner = Learner(config, self._supply(config), steps_per_epoch=steps, device=self.device)
        learner.start_epoch()
        share = config.data.batch_size // self.workers
        step = _TimedStep(learner, provider, self._stream(config.data, min(share, SMALL)), self.device)
        step()
        building = time.perf_counter() - began
        some = affordable(share, sum(step()), seconds / 8, min(share, SMALL))
        stream = self._stream(config.data, some)
        shared, own = _steps(_TimedStep(learner, provider, stream, self.device), began + 0.6 * seconds)
        pages = provider.pages | _labels_page(config, learner.inputs)
        per_image = sum(self._page_seconds(provider, stream, page) for page in pages) / some
        scoring = self._evaluation_seconds(learner, seconds / 10)
        saving, size = self._checkpoint(learner)
        return StepTimings(
            shared_seconds=shared * share / some,
            learner_seconds=own * share / some,
            evaluation_seconds=scoring,
            checkpoint_seconds=saving,
            start_seconds=opening + building,
            prepare_seconds=per_image * len(self.dataset.train) / self.workers,
            steps_per_epoch=steps,
            checkpoint_bytes=size,
            parameters=sum(parameter.numel() for parameter in learner.parameters),
        )

    def _stream(self, data: DataConfig, batch_size: int) -> Stream:
        shown = normalization(self.sample.name, self.sample.image_size)
        return Stream(
            self.sample.train,
            size=self.sample.image_size,
            batch_size=batch_size,
            seed=data.stream_seed,
            normalize=shown,
            device=self.device,
            prefetch=0,
            fixed_views=data.fixed_views,
            kind=self.dataset.kind,
        )

    def _supply(self, config: Config) -> LearnerInputs:
        """Make what `TeacherProvider` would give, with arbitrary pseudo labels."""
        context = promised(config, self.dataset, self.store)
        labels = self.dataset.train.labels
        source = config.method.label_source()
        if source is not None and source.kind != "true":
            labels = torch.arange(len(self.dataset.train)) % source.clusters
        keys = teacher_keys(config, self.dataset)
        return LearnerInputs(context, keys, config.teacher.bank, None if source is None else labels)

    def _page_seconds(self, provider: _TimedTeacherProvider, stream: Stream, page: tuple[str, View, Output]) -> float:
        """Seconds of one batch of a page, in all the versions that there will be."""
        key, view, output = page
        versions = 1 if provider.banked(view, False) else provider.data.fixed_views or 1

        def work() -> None:
            views, _ = stream.batch(0, 0, (view,))
            provider.embed(key, output, views[view])

        work()
        return versions * _seconds(work, self.device)

    def _evaluation_seconds(self, learner: Learner, enough: float) -> float:
        """Seconds of one scoring, of twice as many images each time, until it takes `enough` or there are no more."""
        encoders = scored_encoders(learner.method, learner.config.eval.encoders)
        bank = min(len(self.sample.bank), learner.config.eval.bank_images or len(self.sample.bank))
        used = 64
        while True:
            part = min(1.0, used / (bank + len(self.sample.val)))
            known = _part(self.sample.bank, part * bank)
            cut = replace(
                self.sample,
                train=known,
                labelled=known,
                val=_part(self.sample.val, part * len(self.sample.val)),
            )

            def work(cut: Dataset = cut) -> None:
                targets = partial(_stand_ins, learner, len(cut.val)) if learner.config.method.regresses() else None
                candidate = Candidate(encoders, learner.config.eval, learner.method, targets)
                self.evaluate({"": candidate}, cut, self.device)

            work()  # loads libraries, and lets the device choose its kernels
            took = _seconds(work, self.device)
            if part == 1.0 or took >= enough:
                return took / part
            used *= 2

    def _checkpoint(self, learner: Learner) -> tuple[float, int]:
        """Seconds to write one, and its bytes."""
        folder = self.store.root.parent / "checkpoint"
        began = time.perf_counter()
        path = write_checkpoint(folder, 1, learner.state_dict())
        took = time.perf_counter() - began
        size = sum(file.stat().st_size for file in folder.iterdir())
        path.unlink()
        return took, size


def _stand_ins(learner: Learner, rows: int) -> tuple[Tensor, ...]:
    """Make tensors of the shapes that a learner's teachers give for `rows` images: (rows, D) each."""
    output = learner.config.method.teacher_output()
    assert output is not None
    return tuple(torch.ones(rows, width) for width in learner.inputs.context.teacher_widths(output))


class _TimedTeacherProvider(TeacherProvider):
    """Provider that notes how long teachers run, and whose bank has random rows and is never filled."""

    def __init__(
        self, store: Store, dataset: Dataset, data: DataConfig, *, device: torch.device, workers: Workers
    ) -> None:
        super().__init__(store, dataset, data, device=device, workers=workers)
        self.teacher_seconds = 0.0
        self.pages: set[tuple[str, View, Output]] = set()
        self._rows: dict[tuple[str, Output], np.ndarray] = {}

    def embed(self, key: str, output: Output, images: Tensor) -> Tensor:
        began = _now(self.device)
        embedded = super().embed(key, output, images)
        self.teacher_seconds += _now(self.device) - began
        return embedded

    def page(self, key: str, view: View, output: Output, epoch: int) -> np.ndarray:
        self.pages.add((key, view, output))
        if (key, output) not in self._rows:
            size = self.dataset.image_size
            width = super().embed(key, output, torch.zeros(2, 3, size, size, device=self.device)).shape[1]
            self._rows[key, output] = _random_rows(len(self.dataset.train), width)
        return self._rows[key, output]


@dataclass
class _TimedStep:
    """Called: the seconds of the shared and of the learner's own part of the next step."""

    learner: Learner
    provider: _TimedTeacherProvider
    stream: Stream
    device: torch.device
    number: int = 0

    def __call__(self) -> tuple[float, float]:
        epoch = min(self.learner.steps_per_epoch, self.stream.steps_per_epoch)
        number, self.number = self.number, (self.number + 1) % epoch
        if number == 0:
            self.learner.start_epoch()
        began = _now(self.device)
        views, indices = self.stream.batch(0, number, self.learner.views)
        drawn = _now(self.device)
        before = self.provider.teacher_seconds
        # An untrained teacher may give what a trained one would not; the step has done its work all the same.
        with suppress(NonFiniteError):
            self.learner.train_step(self.learner.batch(self.provider.step(views, indices, 0)))
        trained = _now(self.device)
        teaching = self.provider.teacher_seconds - before
        return drawn - began + teaching, trained - drawn - teaching


def _steps(step: Callable[[], tuple[float, float]], deadline: float) -> tuple[float, float]:
    """Medians of the shared and the own seconds, after one step to warm up; `deadline` on `perf_counter`."""
    step()
    taken: list[tuple[float, float]] = []
    while len(taken) < MIN_STEPS or (len(taken) < MAX_STEPS and time.perf_counter() < deadline):
        taken.append(step())
        if settled([sum(pair) for pair in taken]):
            break
    shared, own = zip(*taken, strict=True)
    return statistics.median(shared), statistics.median(own)


def but_seed(recipe: Config) -> str:
    """Return what teachers that differ only in their seed have in common."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 0})}).model_dump_json()


def _labels_page(config: Config, inputs: LearnerInputs) -> set[tuple[str, View, Output]]:
    """The page that pseudo labels are made from, if any."""
    source = config.method.label_source()
    if source is None or source.kind in ("true", "random") or not inputs.teachers:
        return set()
    return {(inputs.teachers[0], PLAIN, "features")}


def _random_rows(count: int, width: int) -> np.ndarray:
    """(count, width) float16 that take the memory of `count + width` numbers: each row overlaps the next."""
    numbers = np.random.default_rng(0).standard_normal(count + width - 1).astype(np.float16)
    return np.lib.stride_tricks.sliding_window_view(numbers, width)


def _part(images: Images, count: float) -> Images:
    return images.subset(range(min(len(images), max(2, round(count)))))


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    began = _now(device)
    work()
    return _now(device) - began


def _now(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)

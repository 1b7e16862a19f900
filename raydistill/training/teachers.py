"""Inputs of learners beside views: frozen teachers, teacher banks, labels; each loaded once per pack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from raydistill.artifacts import teachers
from raydistill.artifacts.bank import BankPage, open_page
from raydistill.artifacts.identity import images_identity
from raydistill.artifacts.labels import class_counts, labels_provenance, open_labels, true_labels
from raydistill.artifacts.store import Store
from raydistill.config import ConfigError, DataConfig
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.data.views.augment import View, evaluate_view, normalization
from raydistill.data.views.recipes import is_plain
from raydistill.methods import FeatureDims, MethodContext
from raydistill.methods.base import TeacherOutputs
from raydistill.models.queue import EmbeddingLog, TeacherBatch
from raydistill.models.teacher import FrozenTeacher
from raydistill.options import LabelSource, MethodConfig, Output
from raydistill.options.base import AugmentConfig
from raydistill.training.devices import Clock, has_bf16
from raydistill.training.distributed import Workers
from raydistill.trial_spec import TrialSpec

T = TypeVar("T")
PLAIN = View("eval", 0)
HELD_OUT_BATCH = 512  # images
LoadedTeachers = dict[tuple[str, Any], FrozenTeacher]
# A teacher's key, whether its rows come from the bank, and what of it is looked at.
Source = tuple[str, bool, View, Output]


@dataclass(frozen=True)
class LearnerInputs:
    """Inputs promised to one learner: the keys of its teachers, whether from the bank, and its labels (N,)."""

    context: MethodContext
    teachers: tuple[str, ...] = ()
    bank: bool = True
    labels: Tensor | None = None


# docs/architecture.md#teachers-and-labels-from-the-pack
class TeacherProvider:
    """The teachers, banks and labels of one pack.

    Args:
        store: where they are kept; None: there are none, and a method that needs one is refused.
        dataset, data: the images of the pack.
        teachers: those that other packs of this process have loaded, by key and normalisation; added to.

    `spans` are marks of `clock` round the work of teachers and banks, which is nobody's own step.
    """

    def __init__(
        self,
        store: Store | None,
        dataset: Dataset,
        data: DataConfig,
        *,
        device: torch.device,
        workers: Workers,
        teachers: LoadedTeachers | None = None,
    ) -> None:
        self.store, self.dataset, self.data = store, dataset, data
        self.device, self.workers = device, workers
        self.normalize = normalization(dataset.name, dataset.image_size)
        self._teachers: LoadedTeachers = {} if teachers is None else teachers
        self._pages: dict[tuple[str, View, int, Output], np.ndarray] = {}
        self._logs: WeakValueDictionary[Source, EmbeddingLog] = WeakValueDictionary()
        self._held_out: dict[tuple[str, Output], Tensor] = {}
        self._identity: dict[str, Any] | None = None
        self.clock = Clock(device)
        self.spans: list[tuple[Any, Any]] = []

    def inputs_for(self, spec: TrialSpec) -> LearnerInputs:
        """Everything that a learner of this trial needs; its teachers and labels are looked up, never decided here.

        Raises: ValueError (ConfigError, ArtifactError) naming what is missing.
        """
        if spec.teachers is None or not spec.resolved:
            raise ConfigError(f"the teachers and labels of this {spec.config.method.name} trial were never decided")
        widths = tuple(FeatureDims(*self._teacher(key).widths) for key in spec.teachers)
        labels, counts = self._labels(spec.config.method.label_source(), spec)
        context = MethodContext(self.dataset.image_size, len(self.dataset.train), counts, widths, self.dataset.levels)
        return LearnerInputs(context, spec.teachers, spec.config.teacher.bank, labels)

    def step(self, views: Mapping[View, Tensor], indices: Tensor, epoch: int) -> StepInputs:
        """Make the frozen side of one step, shared by all learners.

        Args:
            views: (n, 3, S, S) by view.
            indices: (n,) of the images.
            epoch: of the stream.
        """
        return StepInputs(self, views, indices, epoch)

    def page(self, key: str, view: View, output: Output, epoch: int) -> np.ndarray:
        """Open the bank's rows for one view; worker 0 makes them on first use, while the others wait.

        Args:
            key: the teacher.
            view: which view.
            output: features or head.
            epoch: of the stream, which says the version.
        """
        version = 0 if _has_no_chance(view) else epoch % (self.data.fixed_views or 1)
        name = (key, view, version, output)
        if name not in self._pages:
            page = BankPage(key, self._images(), view, version, output, self.dataset.kind)
            open_it = partial(
                open_page,
                self._kept(),
                page,
                self.dataset.train,
                partial(self.embed, key, output),
                size=self.dataset.image_size,
                normalize=self.normalize,
                device=self.device,
            )
            self._pages[name] = self.workers.first_alone(open_it)
        return self._pages[name]

    def embedding_log(self, source: Source) -> EmbeddingLog:
        """Return the log in which the queues of all learners hold these embeddings; it goes with the last of them."""
        return self._logs.setdefault(source, EmbeddingLog())

    def banked(self, view: View, wanted: bool) -> bool:
        """Return whether a view repeats itself, so that its embeddings are worth storing."""
        return _has_no_chance(view) or (wanted and self.data.fixed_views is not None)

    def embed(self, key: str, output: Output, images: Tensor) -> Tensor:
        """Compute a teacher's (n, D) float32, outside any learner's precision and without gradient.

        Args:
            key: the teacher.
            output: features or head.
            images: (n, 3, S, S).
        """
        device = images.device
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bf16(device)):
            return self._teacher(key)(images, output).float()

    def held_out(self, inputs: LearnerInputs, method: MethodConfig) -> tuple[Tensor, ...]:
        """Compute what each teacher makes of the plain validation images, once: (N, D) float32 on the CPU.

        Args:
            inputs: of the learner.
            method: its options, which name the output that it looks at.
        """
        output = method.teacher_output()
        assert output is not None
        for key in inputs.teachers:
            if (key, output) not in self._held_out:
                self._held_out[key, output] = held_out_outputs(
                    self._teacher(key), output, self.dataset, self.dataset.val, self.device
                )
        return tuple(self._held_out[key, output] for key in inputs.teachers)

    def _teacher(self, key: str) -> FrozenTeacher:
        name = (key, self.normalize)
        if name not in self._teachers:
            self._teachers[name] = teachers.load(self._kept(), key, self.normalize, self.device)
        return self._teachers[name]

    def _labels(self, source: LabelSource | None, spec: TrialSpec) -> tuple[Tensor | None, tuple[int, ...]]:
        if source is None:
            return None, ()
        train = self.dataset.train
        if source.kind == "true":
            known = true_labels(train, self.data.source)
            return known, class_counts(known, len(train.classes))
        keys = spec.teachers or ()
        open_it = partial(
            open_labels,
            self._kept(),
            spec.labels or "",
            lambda: labels_provenance(source, self._images(), keys),
            source,
            partial(self._plain_features, keys),
            len(train),
        )
        labels = self.workers.first_alone(open_it)
        return labels, class_counts(labels, source.clusters)

    def _plain_features(self, keys: tuple[str, ...]) -> Tensor:
        return torch.from_numpy(np.asarray(self.page(keys[0], PLAIN, "features", 0), dtype=np.float32))

    def _images(self) -> dict[str, Any]:
        if self._identity is None:
            self._identity = images_identity(self.dataset, self.data)
        return self._identity

    def _kept(self) -> Store:
        if self.store is None:
            raise ValueError("this method needs a store of artifacts (its teacher, its labels) and none is given")
        return self.store


class StepInputs:
    """One step's views, and what teachers make of them, computed on first use and kept for all learners."""

    def __init__(self, provider: TeacherProvider, views: Mapping[View, Tensor], indices: Tensor, epoch: int) -> None:
        self._provider, self.views, self.indices, self._epoch = provider, views, indices, epoch
        self._known: dict[Source, Tensor] = {}
        self._batches: dict[Source, TeacherBatch] = {}

    def views_for(self, views: Iterable[View], augment: AugmentConfig) -> Mapping[View, Tensor]:
        """Return the views that a method names, with its learner's settings of augmentation."""
        return {view: self.views[view.changed(augment)] for view in views} if augment.chosen() else self.views

    def teachers(self, inputs: LearnerInputs, augment: AugmentConfig) -> tuple[TeacherOutputs, ...]:
        """One for each of a learner's teachers; it sees the views with the learner's settings of augmentation."""

        def seen(make: Callable[[str, bool, View, Output], T], key: str) -> Callable[[View, Output], T]:
            return lambda view, output: make(key, inputs.bank, view.changed(augment), output)

        return tuple(TeacherOutputs(seen(self._embed, key), seen(self._teacher_batch, key)) for key in inputs.teachers)

    def labels(self, inputs: LearnerInputs) -> Tensor | None:
        if inputs.labels is None:
            return None
        return inputs.labels[self.indices].to(self._provider.device, non_blocking=True)

    def _embed(self, key: str, bank: bool, view: View, output: Output) -> Tensor:
        banked = self._provider.banked(view, bank)
        source = (key, banked, view, output)
        if source not in self._known:
            make = self._looked_up if banked else self._computed
            began = self._provider.clock.mark()
            self._known[source] = make(key, view, output)
            self._provider.spans.append((began, self._provider.clock.mark()))
        return self._known[source]

    def _teacher_batch(self, key: str, bank: bool, view: View, output: Output) -> TeacherBatch:
        source = (key, self._provider.banked(view, bank), view, output)
        if source not in self._batches:
            gather = self._provider.workers.gather_of(self._provider.data.batch_size)
            rows = gather(self._embed(key, bank, view, output))
            self._batches[source] = TeacherBatch(rows, self._provider.embedding_log(source))
        return self._batches[source]

    def _looked_up(self, key: str, view: View, output: Output) -> Tensor:
        page = self._provider.page(key, view, output, self._epoch)
        # In half precision, as they are stored, and without waiting: CUDA has copied the rows when the call returns.
        return torch.from_numpy(page[self.indices.numpy()]).to(self._provider.device, non_blocking=True).float()

    def _computed(self, key: str, view: View, output: Output) -> Tensor:
        return self._provider.embed(key, output, self.views[view])


def held_out_outputs(
    teacher: FrozenTeacher, output: Output, dataset: Dataset, split: Images, device: torch.device
) -> Tensor:
    """Compute what a teacher makes of a split without augmentation, in full precision: (N, D) on the CPU.

    Args:
        teacher: on `device`, for batches normalised as the dataset's.
        output: features or head.
        dataset, split: the images.
        device: where the teacher is.
    """
    normalize = normalization(dataset.name, dataset.image_size)
    rows = []
    for start in range(0, len(split), HELD_OUT_BATCH):
        images, _ = split.fetch(range(start, min(start + HELD_OUT_BATCH, len(split))))
        rows.append(
            teacher(evaluate_view(images, size=dataset.image_size, normalize=normalize, device=device), output).cpu()
        )
    return torch.cat(rows)


def _has_no_chance(view: View) -> bool:
    return is_plain(view.recipe)


def plain_context(context: MethodContext) -> dict[str, Any]:
    """Return a context as a checkpoint holds it; one without `levels` as version 0.1 wrote it."""
    values = asdict(context)
    return values if context.levels else {name: value for name, value in values.items() if name != "levels"}

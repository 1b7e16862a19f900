"""A learner: one configuration being trained. Knows neither Ray nor MLflow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from raydistill import methods
from raydistill.config import DEFAULT_OFFSETS, Config
from raydistill.data.views.augment import View
from raydistill.errors import RaydistillError
from raydistill.methods import Batch, StepInfo
from raydistill.training.devices import has_bf16, is_unsound, sound_kernels
from raydistill.training.distributed import Workers, with_shared_norms
from raydistill.training.optimizers import make_optimizer
from raydistill.training.patience import has_settled, is_opening, span
from raydistill.training.schedules import learning_rate
from raydistill.training.teachers import LearnerInputs, StepInputs, plain_context

CHECKED_EVERY = 50  # steps, on a GPU


class NonFiniteError(RaydistillError, RuntimeError):
    """A loss term or a gradient is NaN or infinite; the message names it."""


class Learner:
    """Method, optimizer, schedule and random state of one configuration.

    Its numbers are the same alone and in company: weights are drawn from `train.seed`, and every draw
    inside an epoch comes from a generator state seeded by (seed, epoch, rank) that no one else touches.

    Args:
        inputs: the teachers, labels and widths that the pack has for it.

    `offsets` are pairs (own epoch e, k): from e on it sees the stream's epoch e + k. They are what it saw so far;
    where `train.offsets` prescribes them it `reproduces_offsets`, and they are what it has to see.
    With `train.patience`, `scores` are those that count, and `settled` is the epoch after which they settled.

    Raises: ValueError for an unknown backbone, a stem that it cannot take, or a teacher that does not fit.
    """

    def __init__(
        self,
        config: Config,
        inputs: LearnerInputs,
        *,
        steps_per_epoch: int,
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
    ) -> None:
        self.config = config
        self.inputs = inputs
        self.device = torch.device(device)
        self.workers = workers or Workers()
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.scores: list[float] = []
        self.settled: int | None = None
        self.most_workers = self.workers.world
        # The default says nothing; any other list is what a run saw, to be seen again.
        # docs/architecture.md#late-joiners
        self.reproduces_offsets = config.train.offsets != DEFAULT_OFFSETS
        self.offsets = list(config.train.offsets) if self.reproduces_offsets else []
        method = methods.build(config.method, inputs.context, seed=config.train.seed)
        if config.train.sync_batchnorm and self.workers.world > 1 and self.device.type == "cuda":
            method = with_shared_norms(method)
        self.method = method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = [p for p in self.method.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(config.train, self.parameters)
        self._random_state: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._first_bad: dict[str, Tensor] = {}
        self._unsound = is_unsound(self.method, self.device)
        self._waits = self.device.type == "cpu"  # else the host would wait for the GPU in each step
        self._bf16 = config.train.precision == "bf16" or (config.train.precision == "auto" and has_bf16(self.device))

    # docs/architecture.md#augmentation-from-the-learner
    @property
    def views(self) -> tuple[View, ...]:
        """The views that the stream makes for it: those that its method names, with its settings of augmentation."""
        return tuple(view.changed(self.config.augment) for view in self.method.views)

    @property
    def done(self) -> bool:
        return self.epoch >= self.last_epoch

    @property
    def last_epoch(self) -> int:
        """The epoch with which training ends, as far as is known by now."""
        return span(self.config.train, self.settled)[1]

    def start_epoch(self) -> None:
        """Reset the running means and seed this epoch's draws."""
        train = self.config.train
        self.step = self.epoch * self.steps_per_epoch
        self._sums = {}
        with torch.random.fork_rng(devices=_cuda_devices(self.device)):
            # docs/architecture.md#addressed-random-numbers
            torch.manual_seed((train.seed * 1_000_003 + self.epoch) * 1_009 + self.workers.rank)
            self._random_state = _random_state(self.device)

    def batch(self, step: StepInputs) -> Batch:
        """Make this learner's batch of a step that all learners of the pack share."""
        gather = self.workers.gather_of(self.config.data.batch_size)
        augment = self.config.augment
        views, teachers = step.views_for(self.method.views, augment), step.teachers(self.inputs, augment)
        return Batch(views, step.indices, gather, teachers, step.labels(self.inputs))

    def train_step(self, batch: Batch) -> None:
        """One optimisation step.

        Raises: NonFiniteError if the loss or a gradient is not finite: on a CPU before the update. On a GPU some steps
            later, or at the end of the epoch, whose weights then are of no use.
        """
        progress = StepInfo(self.step, self.config.train.epochs * self.steps_per_epoch)
        self.method.train()
        with self._own_random_state():
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
                terms = self.method.loss(batch, progress)
            self.optimizer.zero_grad(set_to_none=True)
            with sound_kernels(unsound=self._unsound):  # not round the loss, which may compute what all learners share
                terms["loss"].backward()
            self.workers.sum_gradients(self.parameters)
            self._check_finite(terms, self._gradient_norm())
            fall, end = span(self.config.train, self.settled)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(
                    self.config.train,
                    step=self.step,
                    total=end * self.steps_per_epoch,
                    steps_per_epoch=self.steps_per_epoch,
                    batch_size=self.config.data.batch_size,
                    fall=None if fall is None else fall * self.steps_per_epoch,
                )
            self.optimizer.step()
            self.method.after_step(progress)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self.step += 1

    def finish_epoch(self) -> dict[str, float]:
        """Count the epoch and return the mean of every loss term over it. Raises: NonFiniteError, as `train_step`."""
        self._raise_first_bad()
        self.workers.average_buffers(self.method)
        self.epoch += 1
        return {name: value.item() / self.steps_per_epoch for name, value in self._sums.items()}

    def note_scores(self, scores: Mapping[str, float], images: int) -> None:
        """Take the validation scores of the epoch that has ended into account; only `train.patience` asks for them.

        Args:
            scores: by metric.
            images: of the validation split.
        """
        train = self.config.train
        score = scores.get("val_knn", scores.get("val_instance"))
        if train.patience is None or score is None or self.settled is not None or is_opening(train, self.epoch):
            return
        self.scores.append(score)
        if has_settled(self.scores, images, train.patience):
            self.settled = self.epoch

    def stream_epoch(self, epoch: int) -> int | None:
        """The stream's epoch that this learner must see as its own epoch `epoch`; None: any."""
        known = [pair for pair in reversed(self.offsets) if pair[0] <= epoch]
        return epoch + max(known, key=itemgetter(0))[1] if known else None

    def see(self, stream_epoch: int) -> None:
        """Record that the next epoch is trained on the stream's `stream_epoch`."""
        if self.stream_epoch(self.epoch) != stream_epoch:
            self.offsets.append((self.epoch, stream_epoch - self.epoch))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on, and the metrics of the last.

        With them goes what trained it: the kind of device, and the most workers of any epoch.
        """
        return {
            "given": plain_context(self.inputs.context),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "offsets": [list(pair) for pair in self.offsets],
            "metrics": self.metrics,
            "device": self.device.type,
            "workers": self.most_workers,
            **({"scores": self.scores, "settled": self.settled} if self.config.train.patience is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises RuntimeError if it belongs to another architecture."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._match_memory_formats()
        self.epoch = state["epoch"]
        self.offsets = [(epoch, offset) for epoch, offset in state["offsets"]]
        self.metrics = dict(state["metrics"])
        self.most_workers = max(self.most_workers, state.get("workers", 1))
        self.scores, self.settled = list(state.get("scores", ())), state.get("settled")

    # docs/architecture.md#memory-format-of-optimizer-moments
    def _match_memory_formats(self) -> None:
        """Loaded moments are contiguous; beside channels-last weights the fused step would mispair them."""
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(value)

    def _gradient_norm(self) -> Tensor:
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(grads, foreach=True)
        if self.config.train.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.train.clip_norm, norm)
        return norm

    # docs/architecture.md#no-host-waits-in-a-step
    def _check_finite(self, terms: dict[str, Tensor], norm: Tensor) -> None:
        """Raise NonFiniteError for a step that is not finite, or note the first such step on the device."""
        values = {name: value.detach() for name, value in terms.items()} | {"gradient": norm}
        if self._waits:
            if not torch.isfinite(values["loss"] + norm):
                raise NonFiniteError(_blame(values, self.epoch, self.step % self.steps_per_epoch))
            return
        values["step"] = torch.full_like(norm, self.step % self.steps_per_epoch)
        if not self._first_bad:
            self._first_bad = {name: value.clone() for name, value in values.items()}
        known = ~torch.isfinite(self._first_bad["loss"] + self._first_bad["gradient"])
        self._first_bad = {
            name: torch.where(known, self._first_bad.get(name, value), value) for name, value in values.items()
        }
        if (self.step + 1) % CHECKED_EVERY == 0:
            self._raise_first_bad()

    def _raise_first_bad(self) -> None:
        """Raise NonFiniteError if a step since the last call was not finite; waits for the device."""
        values, self._first_bad = self._first_bad, {}
        if values and not torch.isfinite(values["loss"] + values["gradient"]):
            raise NonFiniteError(_blame(values, self.epoch, int(values.pop("step"))))

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        outside = _random_state(self.device)
        _set_random_state(self._random_state)
        try:
            yield
        finally:
            self._random_state = _random_state(self.device)
            _set_random_state(outside)


def _blame(values: dict[str, Tensor], epoch: int, step: int) -> str:
    """Say which number is not finite: a term of the loss, the loss itself, or the gradient's norm.

    Args:
        values: the terms by name, with `loss` and `gradient`.
        epoch: of the step.
        step: of the epoch.
    """
    where = f"epoch {epoch}, step {step}"
    terms = {name: value.item() for name, value in values.items() if name not in ("loss", "gradient", "step")}
    bad = {name: value for name, value in terms.items() if not math.isfinite(value)}
    loss = values["loss"].item()
    if not bad and not math.isfinite(loss):
        bad = {"loss": loss}
    if bad:
        return f"{', '.join(f'{name} = {value}' for name, value in bad.items())} at {where}"
    return f"the gradient is not finite at {where}, though the loss is {loss:.4g}"


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state[str(device)] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor]) -> None:
    for where, value in state.items():
        if where == "cpu":
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, where)

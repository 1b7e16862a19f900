"""A pack: learners that train side by side on one stream. A single run is a pack of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.artifacts.store import Store
from raydistill.config import DataConfig, EvalConfig
from raydistill.data.sources import Dataset
from raydistill.data.stream import Stream
from raydistill.data.views.augment import View, normalization
from raydistill.errors import one_line
from raydistill.methods import Method
from raydistill.storage import StoragePath, to_path
from raydistill.training.checkpoints import latest_checkpoint, to_device
from raydistill.training.distributed import Workers
from raydistill.training.failures import LearnerError, remove_traceback, write_traceback
from raydistill.training.learner import Learner, NonFiniteError
from raydistill.training.member import Member, scored_encoders
from raydistill.training.memory import lost_device, memory_in_use, out_of_memory, release
from raydistill.training.messages import EpochResult, EpochStats, JoinRequest
from raydistill.training.teachers import LoadedTeachers, StepInputs, TeacherProvider


@dataclass(frozen=True)
class Candidate:
    """A learner as evaluation sees it: the encoders to score, and how.

    `method` has the student's SSL head. `targets`, if it regresses them: its teachers' validation outputs, (N, D) each.
    `features`: the file for the student's features, if they are kept.
    """

    encoders: Mapping[str, nn.Module]
    settings: EvalConfig
    method: Method | None = None
    targets: Callable[[], tuple[Tensor, ...]] | None = None
    features: StoragePath | None = None


Span = tuple[Any, Any]
"""Two marks of a clock."""
Scores = dict[str, dict[str, float] | Exception]
# docs/architecture.md#shared-evaluation
Evaluate = Callable[[Mapping[str, Candidate], Dataset, torch.device], Scores]


class Pack:
    """Runs learners over the stream of one data setting; a failure ends the learners of that trial alone.

    Args:
        dataset: the images of `data`.
        evaluate: scores learners by their keys, all that are due in one call, so that they share the images;
            returns finite numbers for each, or the exception that is its own.
        device: of every learner and batch.
        workers: the process group.
        store: where teachers, teacher banks and labels are kept.
        prefetch: batches prepared ahead in a thread. None: two beside a GPU, none on a CPU, where training
            has all cores, a third thread gained nothing, and now and then stalled its barriers for seconds.
        teachers: those that other packs of this process have loaded; shared, and added to.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: DataConfig,
        *,
        evaluate: Evaluate,
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
        store: Store | None = None,
        prefetch: int | None = None,
        teachers: LoadedTeachers | None = None,
    ) -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self.workers = workers or Workers()
        self.evaluate = evaluate
        self.members: dict[str, Member] = {}
        self._next_epoch: int | None = None
        self.load: EpochStats | None = None
        self.stream = Stream(
            dataset.train,
            size=dataset.image_size,
            batch_size=data.batch_size,
            seed=data.stream_seed,
            normalize=normalization(dataset.name, dataset.image_size),
            device=device,
            rank=self.workers.rank,
            world=self.workers.world,
            prefetch=(2 if self.device.type == "cuda" else 0) if prefetch is None else prefetch,
            fixed_views=data.fixed_views,
            kind=dataset.kind,
        )
        self.provider = TeacherProvider(
            store, dataset, data, device=self.device, workers=self.workers, teachers=teachers
        )

    @property
    def learners(self) -> dict[str, Learner]:
        """All learners by name; a trial with one seed gives its learner its key."""
        return _named(self.members)

    def add(self, request: JoinRequest) -> EpochResult | None:
        """Take a trial's learners in, from its newest checkpoint if it has one.

        Returns: a report if it was already done, cannot be built, or is further than its trial knows.
        """
        if not self.members:
            self._next_epoch = None
        if self.workers.rank == 0:
            remove_traceback(request.directory)
        try:
            member = self._build(request)
        except Exception as error:
            return self._failed(request.key, 0, error, directory=request.directory)
        if member.done:
            return member.result()
        self.members[request.key] = member
        if request.last_delivered_epoch is not None and member.epoch > request.last_delivered_epoch:
            return member.result()
        return None

    def remove(self, key: str) -> None:
        self.members.pop(key, None)

    # docs/architecture.md#late-joiners
    def _stream_epoch(self) -> int:
        """Return the stream's next epoch: forwards, unless all learners reproduce what they saw before."""
        wanted = [learner.stream_epoch(learner.epoch) for learner in self.learners.values()]
        known = [epoch for epoch in wanted if epoch is not None]
        if self._next_epoch is None or self._replays():
            return min(known, default=self._next_epoch or 0)
        return max(self._next_epoch, min(known)) if known and len(known) == len(wanted) else self._next_epoch

    def _replays(self) -> bool:
        return all(learner.reproduces_offsets for learner in self.learners.values())

    def run_epoch(self, on_step: Callable[[float], None] = lambda share: None) -> list[EpochResult]:
        """One epoch of the stream for every trial that is due; one report each.

        `on_step` is told after every step what share of the epoch's steps is done.
        """
        epoch = self._stream_epoch()
        due = {key: member for key, member in self.members.items() if self._is_due(member.first, epoch)}
        self._next_epoch = epoch + 1
        reports = self._train(due, epoch, on_step)
        reports += self._finish({key: member for key, member in due.items() if key in self.members})
        for report in reports:
            if report.done or report.error:
                self.remove(report.key)
        return [each for each in reports if each.done or each.error or each.epoch > due[each.key].delivered]

    def _build(self, request: JoinRequest) -> Member:
        specs = [request.spec.with_seed(number) for number in range(request.seeds)]
        learners = [
            Learner(
                spec.config,
                self.provider.inputs_for(spec),
                steps_per_epoch=self.stream.steps_per_epoch,
                device=self.device,
                workers=self.workers,
            )
            for spec in specs
        ]
        directory, delivered = request.directory, request.last_delivered_epoch or 0
        member = Member(request.key, learners, to_path(directory) if directory else None, delivered)
        state = latest_checkpoint(member.directory) if member.directory is not None else None
        if state is not None:
            member.load_state_dict(to_device(state, self.device))
        return member

    def _is_due(self, learner: Learner, epoch: int) -> bool:
        """Return whether a learner trains this epoch of the stream.

        One that was resumed an epoch ahead of its neighbours waits; any other takes what comes. A run that reproduces
        its offsets beside others of its kind waits for the very epoch.
        """
        wanted = learner.stream_epoch(learner.epoch)
        if wanted is not None and self._replays():
            return wanted == epoch
        return wanted is None or wanted - epoch != 1

    def _train(self, due: dict[str, Member], epoch: int, on_step: Callable[[float], None]) -> list[EpochResult]:
        reports: list[EpochResult] = []
        views = self._start(due, epoch)
        clock, self.load = self.provider.clock, None
        started = clock.mark()
        try:
            for number, (drawn, indices) in enumerate(self.stream.epoch(epoch, views), 1):
                reports += self._step(due, self.provider.step(drawn, indices, epoch))
                on_step(number / self.stream.steps_per_epoch)
                if not due:
                    break
        except LearnerError:
            raise
        except Exception as error:
            return reports + self._no_room(due, error)
        self._wall = clock.seconds([(started, clock.mark())])
        self._seconds = {
            name: clock.seconds(steps) - clock.seconds(self._taught[name]) for name, steps in self._steps.items()
        }
        self.load = EpochStats(len(self._seconds), self._wall, sum(self._seconds.values()), memory_in_use(self.device))
        return reports

    def _start(self, due: dict[str, Member], epoch: int) -> dict[View, None]:
        """Begin an epoch with every learner; return the views that they look at."""
        for learner in (learners := _named(due)).values():
            learner.see(epoch)
            learner.start_epoch()
        self._steps: dict[str, list[Span]] = {name: [] for name in learners}
        self._taught: dict[str, list[Span]] = {name: [] for name in learners}
        self.provider.spans = []
        return dict.fromkeys(view for learner in learners.values() for view in learner.views)

    def _step(self, due: dict[str, Member], step: StepInputs) -> list[EpochResult]:
        """Take one step with every learner; a trial of which one fails is due no more, and has a report."""
        reports: list[EpochResult] = []
        for member in list(due.values()):
            for name, learner in member.named():
                began, known = self.provider.clock.mark(), len(self.provider.spans)
                try:
                    learner.train_step(learner.batch(step))
                except Exception as error:
                    reports.append(self._member_failed(member, error, member.prefix(learner)))
                    del due[member.key]
                    self.remove(member.key)
                    break
                finally:
                    self._steps[name].append((began, self.provider.clock.mark()))
                    self._taught[name] += self.provider.spans[known:]
        return reports

    def _no_room(self, due: dict[str, Member], error: Exception) -> list[EpochResult]:
        """Reports of all trials where memory does not hold the images of a step, which is nobody's fault.

        Raises: `error` if it says anything else; LearnerError beside other workers.
        """
        if not out_of_memory(error):
            raise error
        reports = self._crowded(due.values(), error)
        for report in reports:
            del due[report.key]
            self.remove(report.key)
        if self.workers.world > 1:
            raise LearnerError(*reports)
        release(error, self.device)
        return reports

    @staticmethod
    def _crowded(members: Collection[Member], error: Exception) -> list[EpochResult]:
        text = f"no room for what all learners share: {one_line(error)}"
        for member in members:
            write_traceback(member.directory, error)
        return [EpochResult(member.key, member.epoch, error=text, memory=True) for member in members]

    def _member_failed(self, member: Member, error: Exception, prefix: str = "") -> EpochResult:
        return self._failed(member.key, member.epoch, error, prefix, member.directory)

    def _failed(
        self, key: str, epoch: int, error: Exception, prefix: str = "", directory: str | StoragePath | None = None
    ) -> EpochResult:
        """The report of a trial that cannot go on.

        Args:
            key: of the trial.
            epoch: its last one.
            error: of one of its learners.
            prefix: of the message.
            directory: of the trial, which gets the traceback.

        Raises: LearnerError where other workers wait for this one in the middle of the step; a loss that is not
        finite is so on all of them, and they drop the learner together. `error` itself when another worker or the
        device is gone, which need not be the learner's fault.
        """
        if self.workers.lost(error) or lost_device(error):
            raise error
        write_traceback(directory, error)
        report = EpochResult(key, epoch, error=prefix + one_line(error), memory=out_of_memory(error))
        if self.workers.world > 1 and not isinstance(error, NonFiniteError):
            raise LearnerError(report)
        if report.memory:
            release(error, self.device)
        return report

    def _finish(self, trained: dict[str, Member]) -> list[EpochResult]:
        """Score, describe and write down trials whose learners have had all steps of their epoch."""
        terms: dict[str, dict[str, float]] = {}
        whole: dict[str, Member] = {}
        reports = []
        for member in trained.values():
            try:
                terms |= {name: learner.finish_epoch() for name, learner in member.named()}
                whole[member.key] = member
            except Exception as error:
                reports.append(self._member_failed(member, error))
        for member in whole.values() if self.workers.rank == 0 else ():
            member.begin_checkpoint()  # its tensors, while scores are made
        began = time.perf_counter()
        scores = self._scores(whole)
        share = (time.perf_counter() - began) / max(len(scores), 1)
        reports += [self._report(member, terms, scores, share) for member in whole.values()]
        return reports

    def _scores(self, trained: dict[str, Member]) -> Scores:
        """Score the learners that are due; all have the same exception where the images cannot be read."""
        due = {
            name: self._candidate(learner, member.features_file(learner))
            for member in trained.values()
            for name, learner in member.named()
            if learner.done or learner.epoch % learner.config.eval.every == 0
        }
        found: Scores = {}
        if due and self.workers.rank == 0:
            try:
                found = self.evaluate(due, self.dataset, self.device)
            except Exception as error:
                if lost_device(error):
                    raise
                if out_of_memory(error) and self.workers.world > 1:
                    members = [m for m in self.members.values() if any(name in due for name, _ in m.named())]
                    raise LearnerError(*self._crowded(members, error)) from error
                found = dict.fromkeys(due, error)
        return {key: found.get(key, {}) for key in due}

    def _candidate(self, learner: Learner, features: StoragePath | None) -> Candidate:
        config, method = learner.config, learner.method
        targets = partial(self.provider.held_out, learner.inputs, config.method) if config.method.regresses() else None
        return Candidate(scored_encoders(method, config.eval.encoders), config.eval, method, targets, features)

    def _report(self, member: Member, terms: dict[str, dict[str, float]], scores: Scores, share: float) -> EpochResult:
        """Report a trial's metrics, and finish its checkpoint.

        Args:
            member: the trial.
            terms: of the loss, by learner.
            scores: of the learners that were due.
            share: seconds that scoring one of them took.
        """
        prefix = ""
        try:
            for name, learner in member.named():
                prefix = member.prefix(learner)
                learner.metrics = self._metrics(name, learner, terms[name], scores.get(name), share * (name in scores))
            prefix = ""
            if self.workers.rank == 0:
                member.finish_checkpoint()
        except Exception as error:
            member.abandon_checkpoint()
            return self._member_failed(member, error, prefix)
        return member.result()

    def _metrics(
        self,
        name: str,
        learner: Learner,
        metrics: dict[str, float],
        scores: dict[str, float] | Exception | None,
        took: float,
    ) -> dict[str, float]:
        """Add a learner's scores and speed to its loss terms.

        `scores`: None where none were due; `took`: its share of their seconds.
        """
        began = time.perf_counter()
        if isinstance(scores, Exception):
            raise scores
        metrics |= self._speed(name)
        if scores is not None:
            metrics = self.workers.broadcast(metrics | scores)
            learner.note_scores(metrics, len(self.dataset.val))
        if learner.config.train.patience is not None:
            metrics["last_epoch"] = float(learner.last_epoch)
        student = learner.method.encoders()["student"]
        metrics["student_parameters"] = float(sum(p.numel() for p in student.parameters()))
        metrics["bad_images"] = float(self.dataset.train.bad)
        metrics["epoch_seconds"] = self._seconds[name] + took + time.perf_counter() - began
        return metrics

    def _speed(self, key: str) -> dict[str, float]:
        images = self.stream.steps_per_epoch * self.stream.batch_size
        threads = {"threads": float(torch.get_num_threads())} if self.device.type == "cpu" else {}
        return threads | {
            "images_per_second": images / max(self._wall, 1e-9),
            "step_seconds": self._seconds[key] / self.stream.steps_per_epoch,
            "shared_seconds": (self._wall - sum(self._seconds.values())) / self.stream.steps_per_epoch,
            "pack_learners": float(len(self._seconds)),
            "workers": float(self.workers.world),
        }


def _named(members: Mapping[str, Member]) -> dict[str, Learner]:
    """The learners of several trials by name."""
    return {name: learner for member in members.values() for name, learner in member.named()}

"""A member of a pack: what one trial trains there, one learner for each of its seeds."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from torch import nn

from raydistill.methods import Method
from raydistill.storage import StoragePath
from raydistill.training.checkpoint_files import TRAJECTORY
from raydistill.training.checkpoints import PendingCheckpoint
from raydistill.training.learner import Learner
from raydistill.training.messages import EpochResult, seed_metric

OTHER_SEEDS = "other_seeds"


# docs/architecture.md#seeds-of-a-trial
class Member:
    """The learners of one trial, which differ in `train.seed` alone and train, fail and end together.

    The first one is the trial's own: its state is what readers of the trial's checkpoints see. Those of the others are
    kept beside it until training is done.

    Args:
        key: of the trial.
        learners: one for each seed, at the same epoch.
        directory: of the trial's checkpoints; None: none are written.
        delivered: the last epoch whose result the trial has; a learner that went back further repeats it in silence.
    """

    def __init__(
        self, key: str, learners: list[Learner], directory: StoragePath | None = None, delivered: int = 0
    ) -> None:
        self.key = key
        self.learners = learners
        self.directory = directory
        self.delivered = delivered
        self._pending: PendingCheckpoint | None = None

    @property
    def first(self) -> Learner:
        return self.learners[0]

    @property
    def epoch(self) -> int:
        return self.first.epoch

    @property
    def done(self) -> bool:
        return self.first.done

    def named(self) -> Iterator[tuple[str, Learner]]:
        """The learners by name: that of the first one is the trial's key."""
        for number, learner in enumerate(self.learners):
            yield f"{self.key}-seed{number}" if number else self.key, learner

    def prefix(self, learner: Learner) -> str:
        """Start of a message about a learner: its seed, where there are several."""
        return f"train.seed = {learner.config.train.seed}: " if len(self.learners) > 1 else ""

    def result(self) -> EpochResult:
        """Result of the last epoch: every metric's mean over the seeds, and the loss and the scores of each.

        `epoch_seconds` is the sum, since that is what the trial's epoch took.
        """
        metrics = dict(self.first.metrics)
        if len(self.learners) > 1:
            metrics = {}
            for name in self.first.metrics:
                values = [learner.metrics[name] for learner in self.learners]
                metrics[name] = sum(values) if name == "epoch_seconds" else fmean(values)
                if name == "loss" or name.startswith("val_"):
                    metrics |= {seed_metric(name, number): value for number, value in enumerate(values)}
        return EpochResult(self.key, self.epoch, metrics, done=self.done, offsets=tuple(self.first.offsets))

    def features_file(self, learner: Learner) -> StoragePath | None:
        """The file for the features that `eval.trajectory` keeps of this epoch; None where none are kept.

        Of several seeds the first one has one, as it has the trial's checkpoint. A learner that went back to an earlier
        epoch writes the later files again.
        """
        if self.directory is None or learner is not self.first or not learner.config.eval.trajectory:
            return None
        return self.directory / TRAJECTORY / f"epoch-{learner.epoch:05d}.npz"

    # docs/architecture.md#checkpoints-now-and-then
    def begin_checkpoint(self) -> None:
        """Start to write what the epoch made of the networks, if this epoch is to have a checkpoint."""
        due = self.done or self.epoch % self.first.config.train.checkpoint_every == 0
        if self.directory is not None and due:
            self._pending = PendingCheckpoint(self.directory, self.epoch, self.state_dict())

    def finish_checkpoint(self) -> None:
        """Finish what was begun, now that the epoch has its metrics. Raises CheckpointError."""
        if self._pending is None and self.done:  # the scores ended the training
            self.begin_checkpoint()
        if self._pending is not None:
            self._pending.finish(self.state_dict())
            self._pending = None

    def abandon_checkpoint(self) -> None:
        """Remove what was begun of an epoch that failed."""
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None

    # docs/architecture.md#checkpoint-of-several-seeds
    def state_dict(self) -> dict[str, Any]:
        """Return the state of the first learner with those of the others, of which only metrics stay after the end."""
        state = self.first.state_dict()
        if len(self.learners) > 1:
            others = self.learners[1:]
            state[OTHER_SEEDS] = [{"metrics": each.metrics} if self.done else each.state_dict() for each in others]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            RuntimeError: it belongs to another architecture.
            ValueError: it is of another number of seeds.
        """
        others = state.get(OTHER_SEEDS, [])
        if len(others) != len(self.learners) - 1:
            raise ValueError(
                f"the checkpoint is of {len(others) + 1} seeds, and {len(self.learners)} are to be trained"
            )
        self.first.load_state_dict(state)
        for learner, own in zip(self.learners[1:], others, strict=True):
            if self.done:
                learner.metrics = dict(own["metrics"])
            else:
                learner.load_state_dict(own)


def scored_encoders(method: Method, which: str) -> dict[str, nn.Module]:
    """The student's encoder, or with `all` every one of the method's."""
    encoders = method.encoders()
    return encoders if which == "all" else {"student": encoders["student"]}

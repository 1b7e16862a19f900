"""Run that the exports work on: what it was asked to train, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.config import DEFAULT_OFFSETS, Config, ConfigError
from raydistill.records.journal import Offsets, TrialRecord
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.storage import StoragePath
from raydistill.trial_spec import TrialSpec

MLFLOW = "mlflow:"


class CheckpointRemovedError(ConfigError):
    """A trial was trained and has no checkpoint; `config` and its `record` in the journal suffice to train it again."""

    def __init__(self, run: str, folder: StoragePath, config: Config, record: TrialRecord) -> None:
        every = config.train.checkpoint_every
        why = "but its checkpoint was removed (--checkpoints-gib, or by hand)"
        if record.epochs < every:
            why = f"before it had a checkpoint (train.checkpoint_every = {every})"
        super().__init__(
            f"{run} was trained to epoch {record.epochs}, {why}; train it again: raydistill train {folder} --out FOLDER"
        )
        self.run, self.config, self.record = run, config, record


@dataclass(frozen=True)
class ResolvedRun:
    """A run with what it was told and what became of it.

    `name` is what was asked for, fit to be part of a path; `run` names the trial itself. `config` has the stream's
    epochs that the trial saw (`train.offsets`); `context` is what its method was built for. `state` is its newest
    checkpoint; an export has none, and is the folder `export`. `outcome` is empty where nobody said; `copies` are
    those of a population's trial. `origin` is what its sweep wrote down of itself (`origin.json`), and `taught` has
    words for each of its teachers in the store. `final` has the rows of its sweep's table if it is the winner, else
    nothing. `encoder` is the one that an export holds, or that is wanted. `decided` has the keys of its teachers and
    labels.
    """

    name: str
    run: str
    config: Config
    context: dict[str, Any]
    epoch: int
    state: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    copies: tuple[str, ...] = ()
    sweep: str = ""
    trial: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    taught: dict[str, str] = field(default_factory=dict)
    final: tuple[LeaderboardEntry, ...] = ()
    encoder: str = "student"
    export: Path | None = None
    decided: TrialSpec | None = None

    @property
    def spec(self) -> TrialSpec:
        """Spec of the run; keys of teachers and labels are open where nobody wrote them down."""
        return (self.decided or TrialSpec(self.config)).with_config(self.config)

    @property
    def complete(self) -> bool:
        return self.epoch >= self.config.train.epochs

    @property
    def suffix(self) -> str:
        """Ending of the names of its encoder's scores."""
        return suffix_of(self.encoder)


def suffix_of(encoder: str) -> str:
    return "" if encoder == "student" else f"_{encoder}"


def from_checkpoint(config: Config, state: dict[str, Any], *, scores: dict[str, float], **known: Any) -> ResolvedRun:
    """Make a run of a configuration and a checkpoint, which knows the epochs of the stream that it saw.

    Args:
        config: of the run.
        state: the checkpoint.
        scores: of the run.
        **known: further fields of `ResolvedRun`.
    """
    config = replaying(config, tuple((epoch, offset) for epoch, offset in state["offsets"]) or DEFAULT_OFFSETS)
    known_scores = {k: v for k, v in {**state["metrics"], **scores}.items() if k.startswith(("val_", "test_"))}
    return ResolvedRun(
        config=config, context=state["given"], epoch=state["epoch"], state=state, scores=known_scores, **known
    )


def replaying(config: Config, offsets: Offsets) -> Config:
    """Return the configuration with the epochs of the stream that a run saw."""
    return config.model_copy(update={"train": config.train.model_copy(update={"offsets": offsets})})

"""Messages between trials, broker and workers. Free of torch: the processes of trials start fast."""

# docs/architecture.md#torch-free-messages
from __future__ import annotations

from dataclasses import dataclass, field

from raydistill.config import DataConfig
from raydistill.trial_spec import TrialSpec

SEED_PREFIX = "seed/"


# docs/architecture.md#one-resolution-per-trial
@dataclass(frozen=True)
class JoinRequest:
    """A trial that wants to train in a pack: its key, what it trains, and the directory of its checkpoints.

    `last_delivered_epoch` is the last epoch whose result reached its trial. A checkpoint that is further is
    reported again. `seeds` is the number of its learners, which differ in `train.seed` alone.
    """

    key: str
    spec: TrialSpec
    directory: str | None = None
    last_delivered_epoch: int | None = None
    seeds: int = 1


@dataclass(frozen=True)
class EpochResult:
    """Result of one epoch of one trial. `error` is empty when it went well.

    `offsets`: which of the stream's epochs its learners saw (`train.offsets`).
    `memory`: the error is that memory ran out, and with fewer neighbours it may go on from its checkpoint.
    """

    key: str
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    done: bool = False
    error: str = ""
    memory: bool = False
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class EpochStats:
    """Costs of an epoch of a pack: `seconds`, of them `own_seconds` in the learners' own steps.

    Memory in bytes, of the GPU, or of the machine without one: the share in use at the epoch's peak.
    """

    learners: int
    seconds: float
    own_seconds: float
    memory: float = 0.0


@dataclass(frozen=True)
class Directive:
    """Next action of a group: drop `stop`, take `start` in, train one epoch of the pack on `data`; or `close`."""

    data: DataConfig | None = None
    start: list[JoinRequest] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    close: bool = False


def seed_metric(metric: str, number: int) -> str:
    """Return the name under which a trial of several seeds reports a metric of one of them, counted from 0."""
    return f"{SEED_PREFIX}{number}/{metric}"


def data_key(data: DataConfig) -> str:
    """Data settings as a name: learners may share a pack when theirs are equal."""
    return data.model_dump_json()

"""Scores of a selected trial, kept beside its checkpoints with word of which of them was scored. Free of torch."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from raydistill.records.layout import SCORES_FILE
from raydistill.storage import StoragePath
from raydistill.training.checkpoint_files import of_epoch, write_atomically

log = logging.getLogger(__name__)
_CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Scores:
    """`values` by metric; `checkpoint` has the `epoch` and the `sha256` of what was scored, None where nobody said."""

    values: dict[str, float]
    checkpoint: dict[str, Any] | None = None

    def fits(self, directory: StoragePath, epoch: int, last: int) -> bool:
        """Return whether these are the scores of a checkpoint.

        Args:
            directory: of the trial.
            epoch: of the checkpoint.
            last: the trial's last epoch; scores that do not name their checkpoint count as those of this epoch.
        """
        if self.checkpoint is None:
            return epoch == last
        return self.checkpoint == identity(of_epoch(directory, epoch))


def identity(checkpoint: StoragePath | None) -> dict[str, Any] | None:
    """Epoch and SHA-256 of a finished checkpoint, by what was written beside it; None for none."""
    if checkpoint is None:
        return None
    try:
        manifest = json.loads(checkpoint.with_suffix(".json").read_text())
        return {"epoch": manifest["epoch"], "sha256": manifest["sha256"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_scores(directory: StoragePath, scores: Scores) -> None:
    """Write a trial's scores. Raises OSError."""
    known = {} if scores.checkpoint is None else {_CHECKPOINT: scores.checkpoint}
    write_atomically(directory / SCORES_FILE, json.dumps(scores.values | known).encode())


def read_scores(directory: StoragePath) -> Scores | None:
    """Read a trial's scores; None where there are none, or the file is torn, which a warning says. Raises OSError."""
    path = directory / SCORES_FILE
    if not path.exists():
        return None
    try:
        values = dict(json.loads(path.read_text()))
        return Scores({k: float(v) for k, v in values.items() if k != _CHECKPOINT}, values.get(_CHECKPOINT))
    except (ValueError, TypeError):
        log.warning("%s: damaged, and left out", path)
        return None

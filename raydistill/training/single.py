"""A single run: a pack of one, with no Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from raydistill.artifacts.store import Store
from raydistill.data.sources import load_dataset
from raydistill.errors import RaydistillError, one_line
from raydistill.training.memory import lost_device
from raydistill.training.messages import EpochResult, JoinRequest
from raydistill.training.pack import Evaluate, Pack
from raydistill.trial_spec import TrialSpec


class TrainingError(RaydistillError, RuntimeError):
    """The learner failed; the message is its one-line cause."""


def train(
    spec: TrialSpec,
    directory: Path | None,
    *,
    evaluate: Evaluate,
    on_epoch: Callable[[EpochResult], None] = lambda report: None,
    device: torch.device | str | None = None,
    store: Store | None = None,
) -> EpochResult:
    """Train one configuration, from its newest checkpoint in `directory` if there is one.

    Args:
        spec: what to train.
        directory: of the checkpoints; None: none are written.
        evaluate: scores a learner.
        on_epoch: called with each result.
        device: None: a GPU if there is one.
        store: holds its teachers already (`planning.prepare.ensure_teachers`).

    Returns:
        The result of the last epoch.

    Raises:
        TrainingError: the training failed.
        DataError: the images cannot be read.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    pack = Pack(load_dataset(spec.data), spec.data, evaluate=evaluate, device=device, store=store)
    try:
        report = pack.add(JoinRequest("train", spec, str(directory) if directory else None))
        while report is None or not (report.done or report.error):
            (report,) = pack.run_epoch()
            if not report.error:
                on_epoch(report)
    except RuntimeError as error:
        if lost_device(error):
            raise TrainingError(f"the GPU failed: {one_line(error)}") from error
        raise
    if report.error:
        raise TrainingError(report.error)
    return report

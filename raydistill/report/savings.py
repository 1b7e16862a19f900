"""Savings by early stopping: epochs, and the seconds and money that they would have taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raydistill.report.formatting import count, duration, percent
from raydistill.report.load import SweepData

ENDED = ("finished", "stopped_early")


@dataclass(frozen=True)
class Savings:
    """Savings of the search's trials that ended, without failed ones.

    `trained` epochs of the `full` ones that the same trials would have had to their end. `worker_seconds`: what the
    others would have taken, by the median time of an epoch, None where that was not logged; `money` at the price
    given, None without one.
    """

    trials: int
    stopped: int
    trained: int
    full: int
    worker_seconds: float | None = None
    money: float | None = None

    @property
    def saved(self) -> int:
        return self.full - self.trained

    @property
    def share(self) -> float:
        """Share of the full training that was done, 0 to 1."""
        return self.saved / self.full if self.full else 0.0


def savings(sweep: SweepData) -> Savings:
    """Count the savings by the epochs that each trial has in MLflow."""
    keys = judged(sweep)
    stopped = [key for key in keys if sweep.trials.outcome[key] == "stopped_early"]
    epochs = sweep.epochs().loc[keys]
    length = full_epochs(sweep)
    left = (length - epochs).clip(lower=0)
    trained, full = int(epochs.sum()), int(epochs.sum() + left.sum())
    pace = _median(sweep.curves("epoch_seconds", keys))
    seconds = None if pace is None else pace * (full - trained) * (_median(sweep.curves("workers", keys)) or 1.0)
    spent = sweep.spent
    price = spent.money / spent.accelerator_hours if spent and spent.money and spent.accelerator_hours else None
    money = None if seconds is None or price is None else seconds / 3600 * price
    return Savings(len(keys), len(stopped), trained, full, seconds, money)


def judged(sweep: SweepData) -> list[str]:
    """Keys of the search's trials that came to their end or were stopped by a scheduler; of an experiment its runs."""
    if sweep.experiment:
        return sweep.role("final", "finished")
    cut = set(cut_off(sweep))
    return [key for key in sweep.role("search", *ENDED) if key not in cut]


def cut_off(sweep: SweepData) -> list[str]:
    """Keys of those that a spent budget or a user ended: both leave a message, where early stopping says nothing."""
    return [key for key in sweep.role("search", "stopped_early") if sweep.trials.message[key]]


def full_epochs(sweep: SweepData) -> int:
    """Number of epochs that a whole trial of the search has; of an experiment its longest run."""
    asked = sweep.base("train.epochs")
    if asked is None or sweep.experiment:  # arms may differ in their epochs
        runs = sweep.role("final" if sweep.experiment else "search")
        return int(max(sweep.epochs().loc[runs], default=0))
    return int(asked)


def describe(found: Savings) -> str:
    """The savings in a sentence or two."""
    if not found.trials:
        return "No trial has ended yet."
    if not found.saved:
        return f"No trial was stopped early: {count(found.trials, 'trial')} had all their epochs, {found.full} in all."
    text = (
        f"{found.stopped} of {count(found.trials, 'trial')} were stopped early: {found.trained} of {found.full} epochs "
        f"were trained, {percent(found.share)} less than by training every trial to its end."
    )
    if found.worker_seconds is not None:
        text += f" At the median time of an epoch that is about {duration(found.worker_seconds)} of a worker saved"
        text += f", {found.money:.2f} at the price given." if found.money is not None else "."
    return text


def _median(frame: pd.DataFrame) -> float | None:
    """Median of all values of a frame; None for an empty one."""
    values = frame.to_numpy(dtype=float).ravel()
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None

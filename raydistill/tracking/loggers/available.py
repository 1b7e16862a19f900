"""Loggers by their names, and whether they can be used here."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from raydistill.config import ConfigError, nearest
from raydistill.records.locations import working_folder
from raydistill.storage import StoragePath
from raydistill.tracking.loggers.base import ExperimentLogger
from raydistill.tracking.loggers.feed import LoggerFeed
from raydistill.tracking.loggers.tensorboard import TensorBoardLogger
from raydistill.tracking.loggers.weights_and_biases import WandbLogger

LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # with the package that each needs
WITHOUT_SERVER = ("offline", "dryrun", "disabled")  # values of WANDB_MODE


def check_loggers(names: Iterable[str]) -> tuple[str, ...]:
    """The loggers, each once. Raises: ConfigError for an unknown one, and for one that cannot be used here."""
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in LOGGERS:
            raise ConfigError(f"--logger {name!r} is unknown{nearest(name, LOGGERS)}; MLflow needs no --logger")
        if find_spec(LOGGERS[name]) is None:
            raise ConfigError(
                f"--logger {name}: needs {LOGGERS[name]}, which is not installed; pip install 'raydistill[{name}]'"
            )
    if "wandb" in chosen:
        _check_login()
    return chosen


def _check_login() -> None:
    """Refuse W&B without a key, which it would ask for in the middle of the sweep."""
    if os.environ.get("WANDB_MODE") in WITHOUT_SERVER:
        return
    import wandb

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        known = wandb.login(prompt=False, verify=False)
    if not known:
        raise ConfigError(
            "--logger wandb: there is no key of Weights & Biases; run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline"
        )


def open_loggers(names: Iterable[str], directory: StoragePath, sweep: str, identity: str) -> list[LoggerFeed]:
    """Loggers that wait for events.

    Args:
        names: which.
        directory: of the sweep. The files of one in an object store are kept in `runs/NAME` here.
        sweep: its name.
        identity: tells it from others of its name.
    """
    folder = directory if isinstance(directory, Path) else working_folder() / "runs" / sweep
    made: dict[str, ExperimentLogger] = {}
    for name in names:
        made[name] = TensorBoardLogger(folder) if name == "tensorboard" else WandbLogger(folder, sweep, identity)
    return [LoggerFeed(name, logger) for name, logger in made.items()]

"""One configuration trained alone, without Ray, its teachers first."""

from __future__ import annotations

from collections.abc import Callable

import torch

from raydistill.artifacts.store import open_store
from raydistill.config import data_errors
from raydistill.data.sources import load_dataset
from raydistill.evaluation.online import evaluate
from raydistill.planning.prepare import ensure_teachers, located
from raydistill.planning.resolve import resolve
from raydistill.storage import StoragePath
from raydistill.sweep.preflight.validation import say_what_stays_random
from raydistill.sweep.run_folder import RunFolder
from raydistill.training.messages import EpochResult
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec


def train_alone(
    spec: TrialSpec,
    run_folder: RunFolder | None,
    *,
    artifacts: StoragePath,
    device: torch.device,
    on_epoch: Callable[[EpochResult], None],
    on_teacher_epoch: Callable[[EpochResult], None],
    notify: Callable[[str], None] = lambda line: None,
) -> EpochResult:
    """Train a configuration with all its teachers, going on with what its folder holds.

    Args:
        spec: what to train; its configuration as `with_own_teacher` makes it.
        run_folder: where checkpoints are kept; None keeps none.
        artifacts: the store of teachers, banks and pseudo labels.
        device: where it is trained.
        on_epoch: gets the result of each epoch.
        on_teacher_epoch: gets that of each epoch of a teacher.
        notify: gets a line about images that are left out, and one about what the settings cannot do.

    Returns: the result of the last epoch.
    Raises: ConfigError for settings or data that cannot be used; TrainingError.
    """
    store = open_store(artifacts)
    with data_errors():
        dataset = load_dataset(spec.data)
        for note in dataset.notes:
            notify(note)
        steps = spec.config.train.epochs * (len(dataset.train) // spec.data.batch_size)
        say_what_stays_random(spec.config, steps, notify)
        spec = spec.with_config(located(spec.config, store, dataset.image_size))
        if run_folder is not None:
            spec = run_folder.with_its_keys(spec)
        spec = resolve(spec, dataset)
        if run_folder is not None:
            run_folder.save_spec(spec)
        ensure_teachers(
            spec,
            store,
            store.root / ".training",
            evaluate=evaluate,
            on_epoch=on_teacher_epoch,
            device=device,
        )
        folder = None if run_folder is None else run_folder.folder
        return train(spec, folder, evaluate=evaluate, on_epoch=on_epoch, device=device, store=store)

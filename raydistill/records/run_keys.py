"""The keys of a run's teachers and labels, beside its configuration: they stay when a preset changes."""

from __future__ import annotations

import json

from raydistill.config import Config, ConfigError
from raydistill.records.layout import KEYS_FILE
from raydistill.storage import StoragePath
from raydistill.training.checkpoint_files import write_atomically
from raydistill.trial_spec import TrialSpec


def read_spec(folder: StoragePath, config: Config) -> TrialSpec:
    """Read the spec of a run's folder; its keys are open where the folder has none.

    Raises ConfigError where the keys are damaged.
    """
    path = folder / KEYS_FILE
    if not path.exists():
        return TrialSpec(config)
    try:
        keys = dict(json.loads(path.read_text()))
        return TrialSpec(config, tuple(keys.get("teachers", ())), keys.get("labels"))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error})") from None


def write_keys(folder: StoragePath, spec: TrialSpec) -> None:
    """Write the keys of `spec` into the folder of its run; a run without any has no such file."""
    if keys := spec.keys_to_dict():
        write_atomically(folder / KEYS_FILE, json.dumps(keys).encode())

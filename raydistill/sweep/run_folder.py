"""The folder of `raydistill train --out`: a run itself, that training goes on with."""

from __future__ import annotations

from pathlib import Path

import yaml

from raydistill import config as configuration
from raydistill.config import Config, ConfigError
from raydistill.records.layout import CONFIG_FILE, is_sweep
from raydistill.records.run_keys import read_spec, write_keys
from raydistill.storage import is_remote
from raydistill.sweep.settings import with_own_teacher
from raydistill.training.checkpoint_files import epoch_of, newest
from raydistill.trial_spec import TrialSpec


class RunFolder:
    """The run in a folder, if it holds one: `existing_config` is its configuration, `epoch` what it was trained to.

    Raises: ConfigError for a folder elsewhere, or in a sweep, whose trials would be changed.
    """

    def __init__(self, out: str) -> None:
        if is_remote(out):
            raise ConfigError(f"--out {out}: give a folder of this machine")
        self.folder = Path(out)
        whole = self.folder.resolve()
        if sweep := next((folder for folder in (whole, *whole.parents) if is_sweep(folder)), None):
            raise ConfigError(f"--out {out}: lies in the folder of sweep {sweep.name}; choose another folder")
        there = self.folder / CONFIG_FILE
        self.existing_config = with_own_teacher(configuration.read(there)) if there.exists() else None
        state = newest(self.folder)
        self.epoch = 0 if state is None else epoch_of(state)

    def with_its_teacher(self, config: Config) -> Config:
        """`config` with the training of its teacher as it was here, where that follows the student's."""
        if self.existing_config is None or config.method.teacher_output() is None or config.teacher.sources:
            return config
        given = {name: getattr(config.teacher, name) for name in ("epochs", "batch_size", "augment")}
        spelt = {name: value or getattr(self.existing_config.teacher, name) for name, value in given.items()}
        return config.model_copy(update={"teacher": config.teacher.model_copy(update=spelt)})

    def with_its_keys(self, spec: TrialSpec) -> TrialSpec:
        """`spec` with the teachers and labels that were decided here, where it needs the same."""
        if self.existing_config is None:
            return spec
        known = read_spec(self.folder, self.existing_config).with_config(spec.config)
        return known if known.resolved else spec

    def save_spec(self, spec: TrialSpec) -> None:
        """Write the configuration and the keys beside its checkpoints.

        The other commands then take the folder for a run. Those of a longer training stay as they are.

        Raises:
            ConfigError: the folder holds another run, or more epochs would make another of it.
        """
        before, config = self.existing_config, spec.config
        if before is not None and _but_length(before) != _but_length(config):
            raise ConfigError(f"--out {self.folder}: holds a run of other settings; choose another folder")
        if before is not None and self.epoch and before.train.epochs != config.train.epochs:
            _check_longer(before, config, self.folder)
        if before is not None and self.epoch > config.train.epochs:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(configuration.dump(config), sort_keys=False)
            (self.folder / CONFIG_FILE).write_text(text)
            write_keys(self.folder, spec)
        except OSError as error:
            raise ConfigError(f"--out {self.folder}: cannot be written ({error.strerror or error})") from None


def _check_longer(before: Config, config: Config, folder: Path) -> None:
    """Refuse a length with which the epochs so far would have been trained otherwise. Raises ConfigError."""
    depends = ""
    if config.train.schedule != "constant":
        depends = f"its learning rate (train.schedule = {config.train.schedule!r})"
    elif config.method.follows_length():
        depends = f"a schedule of {config.method.name}"
    if depends:
        raise ConfigError(
            f"train.epochs = {config.train.epochs}: {folder} holds a run of {before.train.epochs} epochs, on which "
            f"{depends} depends; choose another folder"
        )


def _but_length(config: Config) -> Config:
    """More epochs make no other run of it."""
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})

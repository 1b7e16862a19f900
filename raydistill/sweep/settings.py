"""Settings of a sweep, written beside it, and compared when it is resumed. Free of torch and Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raydistill import config as configuration
from raydistill.config import Config, ConfigError
from raydistill.experiments.scales import Arm
from raydistill.records.budget import Limits
from raydistill.records.layout import SWEEP_FILE
from raydistill.records.names import check_name
from raydistill.records.noise import ACCURACIES
from raydistill.storage import StoragePath, reason
from raydistill.sweep.more_trials import allow_other_numbers
from raydistill.sweep.search.space import Space, difference
from raydistill.trial_spec import teacher_augment

LEADERBOARD_SIZE = 5  # configurations in the table; of several metrics so many of the front go on to the final
BASELINE_ROWS = 2  # configurations of each baseline with the winner's augmentation, besides near-equal trials
CACHES = ("cache_gib", "disk_cache_gib")  # of the images; they change no result, so a resume may have others
# What version 0.1 did.
BEFORE: dict[str, Any] = {
    "baselines": [],
    "baseline_trials": 0,
    "redraw_teachers": False,
    "finalists": 1,
    "seeds_per_trial": 1,
}


def with_own_teacher(config: Config, searched: Iterable[str] = ()) -> Config:
    """`config` with the length, the batches and the augmentation of its teacher's training spelt out.

    So the teacher stays the same whatever the trials make of `train.epochs`, `data.batch_size` and `augment`.

    Args:
        config: of the sweep or the run.
        searched: the paths that trials change. Augmentation that nobody sets or searches is not spelt out.
    """
    if config.method.teacher_output() is None or config.teacher.sources:
        return config
    spelt: dict[str, Any] = {
        "epochs": config.teacher_epochs,
        "batch_size": config.teacher.batch_size or config.data.batch_size,
    }
    if config.augment.chosen() or any(path.startswith("augment.") for path in searched):
        spelt["augment"] = teacher_augment(config)
    return config.model_copy(update={"teacher": config.teacher.model_copy(update=spelt)})


def other_images(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how images differ, split by split; nothing where they are the same.

    Args:
        then, now: numbers and digest, as `SweepSettings.contents` has them.
    """
    if then == now:
        return ""
    splits = [split for split in {**then, **now} if split != "digest"]
    counts = [(split, then.get(split, 0), now.get(split, 0)) for split in splits]
    changed = [f"{split} {before}, now {after}" for split, before, after in counts if before != after]
    return "; ".join(changed) or "as many, but not the same ones"


@dataclass(frozen=True)
class SweepSettings:
    """One sweep, fully resolved and validated.

    `base` holds every setting that is not searched. `trials` configurations are tried for `base`'s epochs; the winner
    and its baselines are then trained with `seeds` seeds in all, with `redraw_teachers` each with teachers and clusters
    of its own, and so are up to `finalists` near-equal trials of each search, whose means decide. Each trial of a
    search trains `seeds_per_trial` seeds, whose mean is its score. `baselines` names them as typed, without any the
    student without distillation; each is searched with `baseline_trials` configurations. Up to `packs` worker groups,
    `packs_per_gpu` of them on each GPU, of `workers` processes (to `most_workers` where the cluster has room) train up
    to `learners` learners each, side by side; without a number, as many as pay. `limits` is what the sweep may use,
    `checkpoints_gib` what its checkpoints may take. `warm_start` names the directories of sweeps to learn from.
    Teachers, teacher banks and pseudo labels are kept in `artifacts`, within `artifacts_gib` if that is given.
    `command` is what was typed, `images` how many there are of each split, `image_size` the pixels that they are
    trained at, `teachers` what those were called that `base` names by their keys. `own_augmentations` names the
    baselines that may get a row with the augmentation of their own preset. `overview` says how the images were
    understood, line by line; `contents` are their numbers and a digest, by which other images are told. A sweep of an
    `experiment` trains its `arms` with every seed instead of a search and its baselines; each arm has a search of its
    own with `arm_trials` configurations, if any. `loggers` receive what MLflow receives.
    """

    name: str
    storage: StoragePath
    tracking_uri: str
    base: Config
    space: Space
    trials: int
    seeds: int = 3
    search_seed: int = 0
    redraw_teachers: bool = False
    baselines: tuple[str, ...] = ()
    baseline_trials: int = 0
    packs: int = 1
    packs_per_gpu: int = 1
    learners: int | None = None
    workers: int = 1
    most_workers: int | None = None
    threads: int | None = None
    gpu: bool | None = None
    preset: str = "default"
    artifacts: StoragePath = Path("artifacts")
    artifacts_gib: float | None = None
    limits: Limits = field(default_factory=Limits)
    checkpoints_gib: float | None = None
    warm_start: tuple[StoragePath, ...] = ()
    command: str = ""
    images: Mapping[str, int] = field(default_factory=dict)
    image_size: int | None = None
    teachers: Mapping[str, str] = field(default_factory=dict)
    finalists: int = 1
    own_augmentations: tuple[str, ...] = ()
    seeds_per_trial: int = 1
    overview: tuple[str, ...] = ()
    contents: Mapping[str, Any] = field(default_factory=dict)
    arms: tuple[Arm, ...] = ()
    arm_trials: int = 0
    experiment: Mapping[str, Any] = field(default_factory=dict)
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_name("sweep", self.name)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def directory(self) -> StoragePath:
        return self.storage / self.name

    def candidates(self, trials: int) -> int:
        """Most trials of a search of so many among which the seeds choose.

        One where they could not: with a single seed, several metrics, a population, or a score that is no accuracy.
        """
        single = self.seeds == 1 or self.space.also or self.space.population or self.space.metric not in ACCURACIES
        return 1 if single else min(self.finalists, trials)

    @property
    def final_runs(self) -> int:
        """Most runs of the final: every configuration with every seed, without those that the search trained."""
        if self.arms:
            return len(self.arms) * (self.seeds - (1 if self.arm_trials else 0))
        found = LEADERBOARD_SIZE if self.space.also else self.candidates(self.trials)
        return found * self.seeds - (0 if self.space.population else found) + self.baseline_final_runs

    @property
    def baseline_final_runs(self) -> int:
        """Most runs of the final that are of baselines; what the search of one trained is its first seed."""
        own = min(len(self.own_augmentations), self.baseline_count)
        return self.baseline_count * self._runs_of_each_baseline + own * self.seeds

    def final_runs_of(self, baseline: str) -> int:
        """Most runs of the final that are of one baseline, by its name; the only one has any of the names."""
        own = bool(self.own_augmentations) if self.baseline_count == 1 else baseline in self.own_augmentations
        return self._runs_of_each_baseline + own * self.seeds

    @property
    def _runs_of_each_baseline(self) -> int:
        """Most runs of the final of a baseline with the winner's augmentation."""
        found = self.candidates(self.baseline_trials) if self.baseline_trials else 0
        return (max(found - 1, 0) + BASELINE_ROWS) * self.seeds - found

    @property
    def baseline_search_runs(self) -> int:
        """Number of learners that the searches of all baselines train."""
        return self.baseline_count * self.baseline_trials * self.seeds_per_trial

    @property
    def baseline_count(self) -> int:
        """Number of baselines; a method that trains without distillation has none of its own, nor has an experiment."""
        if self.arms:
            return 0
        return len(self.baselines) or int(self.base.method.baseline() != self.base.method)

    @property
    def validation_images(self) -> int | None:
        """Number of validation images; None where the images have not been looked at."""
        return self.images.get("val")

    @property
    def epochs(self) -> int:
        return self.base.train.epochs

    def resolve(self, settings: dict[str, Any]) -> Config:
        """The complete configuration of a trial with these searched settings. Raises: ConfigError."""
        return configuration.load(configuration.assign(configuration.dump(self.base), settings))

    def identity(self) -> dict[str, Any]:
        """Return what must not change between start and resume."""
        return {
            "base": configuration.dump(self.base),
            "preset": self.preset,
            "space": self.space.to_dict(),
            "trials": self.trials,
            "seeds": self.seeds,
            "search_seed": self.search_seed,
            "redraw_teachers": self.redraw_teachers,
            "baselines": list(self.baselines),
            "baseline_trials": self.baseline_trials,
            "finalists": self.finalists,
            "seeds_per_trial": self.seeds_per_trial,
            "warm_start": [str(path) for path in self.warm_start],
            "images": dict(self.contents),
            **({"experiment": self._compared()} if self.arms else {}),
        }

    def _compared(self) -> dict[str, Any]:
        """The arms of an experiment, complete."""
        arms = {arm.name: configuration.dump(arm.config) for arm in self.arms}
        return {
            "name": self.experiment["name"],
            "scale": self.experiment["scale"],
            "trials": self.arm_trials,
            "arms": arms,
        }

    def store(self) -> None:
        """Write the identity beside the sweep. Raises ConfigError if the storage refuses."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / SWEEP_FILE).write_text(yaml.safe_dump(self.identity(), sort_keys=False))
        except OSError as error:
            raise ConfigError(f"storage {self.directory} cannot be written ({reason(error)})") from None

    def check_start(self, *, resume: bool) -> None:
        """Refuse to start over an existing sweep, or to resume a missing or a different one."""
        self.check_name(resume=resume)
        if resume:
            self.check_unchanged()

    def check_name(self, *, resume: bool) -> None:
        """Refuse to start over an existing sweep, or to resume a missing one."""
        there = (self.directory / SWEEP_FILE).exists()
        if there and not resume:
            raise ConfigError(
                f"sweep {self.name!r} exists in {self.storage}; add --resume to go on with it, or choose another --name"
            )
        if resume and not there:
            raise ConfigError(f"--resume: there is no sweep {self.name!r} in {self.storage}")

    def check_unchanged(self) -> None:
        """Refuse to resume a sweep that was started with other settings, but for the number of trials.

        Images that nobody has opened, as those of a finished experiment, are not compared.
        """
        path = self.directory / SWEEP_FILE
        values = configuration.read_yaml(path)
        if not isinstance(values, dict):
            raise ConfigError(f"--resume: {path} is damaged; it should hold the sweep's settings")
        stored: dict[str, Any] = BEFORE | values
        with suppress(ConfigError):  # settings that came after the sweep's version have their defaults
            stored["base"] = configuration.dump(configuration.load(stored.get("base", {})))
        known = stored.pop("images", None)  # sweeps of before do not say
        if known and self.contents and (other := other_images(known, self.contents)):
            raise ConfigError(
                f"--resume: the images of sweep {self.name!r} are others now ({other}), and trials on both cannot be "
                f"compared; start another sweep, with --warm-start {self.name} to begin with what this one found"
            )
        now = {name: value for name, value in self.identity().items() if name != "images"}
        if self.arms and not self.contents:  # its space holds only the metric, which follows from the images
            stored["space"] = now["space"]
        if isinstance(experiment := stored.get("experiment"), dict):
            for name, values in experiment["arms"].items():
                with suppress(ConfigError):
                    experiment["arms"][name] = configuration.dump(configuration.load(values))
        for settings in (stored, now):
            for config in (settings["base"], *settings.get("experiment", {}).get("arms", {}).values()):
                if isinstance(data := config.get("data"), dict):
                    config["data"] = {name: value for name, value in data.items() if name not in CACHES}
        allow_other_numbers(self.directory, stored, now)
        changes = [line.removeprefix("base.") for line in difference(stored, now)]
        if changes:
            begin = "" if self.arms else f", with --warm-start {self.name} to begin with what this one found"
            raise ConfigError(
                f"--resume: sweep {self.name!r} was started with other settings: {'; '.join(changes)}; give what it "
                f"was started with, or another --name for a sweep of its own{begin}"
            )

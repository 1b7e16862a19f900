"""A trial, resolved: its configuration, its teachers and its labels. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydistill import config as configuration
from raydistill.config import AugmentConfig, Config, ConfigError, DataConfig, TeacherConfig

ARTIFACT_PREFIX = "artifact:"  # of a teacher that a configuration names by its key in the store
# Settings of teachers that do not say how they are trained, or for which `teacher_inputs` has what they amount to.
NOT_OF_TRAINING = ("sources", "format", "bank", "epochs_factor", "augment")
# Settings of the data that change neither the images nor their split.
NOT_OF_IMAGES = ("root", "download", "cache_gib", "disk_cache_gib", "batch_size", "stream_seed", "fixed_views")


# docs/architecture.md#one-resolution-per-trial
@dataclass(frozen=True)
class TrialSpec:
    """Resolved trial: decided once by whoever plans it, and only looked up by whoever trains it.

    Args:
        config: the validated configuration.
        teachers: the keys of its frozen teachers in the store; None while they are not decided.
        labels: the key of its pseudo labels in the store; None while it is not decided, or if the method needs none.

    A method without teachers has none, and teachers that `config` names by their keys are known, so both are decided
    from the start.

    Raises: ConfigError for keys that do not belong to the configuration.
    """

    config: Config
    teachers: tuple[str, ...] | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        method, teacher = self.config.method, self.config.teacher
        named = tuple(source.removeprefix(ARTIFACT_PREFIX) for source in teacher.sources)
        if self.teachers is None and method.teacher_output() is None:
            object.__setattr__(self, "teachers", ())
        elif self.teachers is None and named and all(s.startswith(ARTIFACT_PREFIX) for s in teacher.sources):
            object.__setattr__(self, "teachers", named)
        wanted = 0 if method.teacher_output() is None else len(named) or teacher.count
        if self.teachers is not None and (len(self.teachers) != wanted or not all(self.teachers)):
            raise ConfigError(f"teachers = {list(self.teachers)}: {method.name} is set to have {wanted}")
        if self.labels is not None and (not self.labels or not self._needs_labels):
            raise ConfigError(f"labels = {self.labels!r}: {method.name} takes none from the store")

    @property
    def data(self) -> DataConfig:
        """The data settings; trials share a pack when theirs are equal."""
        return self.config.data

    @property
    def resolved(self) -> bool:
        """True where all keys are decided."""
        return self.teachers is not None and (self.labels is not None or not self._needs_labels)

    @property
    def _needs_labels(self) -> bool:
        source = self.config.method.label_source()
        return source is not None and source.kind != "true"

    def with_config(self, config: Config) -> TrialSpec:
        """The spec of another configuration. A key stays decided where nothing that it depends on differs."""
        teachers = self.teachers if teacher_inputs(config) == teacher_inputs(self.config) else None
        same_labels = (
            teachers is not None
            and config.method.label_source() == self.config.method.label_source()
            and _images(config.data) == _images(self.config.data)
        )
        return TrialSpec(config, teachers, self.labels if same_labels else None)

    def with_seed(self, number: int) -> TrialSpec:
        """The spec with another `train.seed`, so many above its own; 0 is the spec itself."""
        if not number:
            return self
        train = self.config.train.model_copy(update={"seed": self.config.train.seed + number})
        return self.with_config(self.config.model_copy(update={"train": train}))

    def assign(self, settings: dict[str, Any]) -> TrialSpec:
        """The spec with each dotted path of `settings` set. Raises: ConfigError."""
        return self.with_config(configuration.load(configuration.assign(configuration.dump(self.config), settings)))

    def keys_to_dict(self) -> dict[str, Any]:
        """The decided keys as plain values; nothing where there are none."""
        keys: dict[str, Any] = {"teachers": list(self.teachers)} if self.teachers else {}
        return keys | ({} if self.labels is None else {"labels": self.labels})

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain values (lists, numbers, strings), ready for YAML or JSON."""
        return {"config": configuration.dump(self.config), **self.keys_to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrialSpec:
        """The spec in plain values; those of a version that decided no keys have a configuration alone.

        Raises: ConfigError.
        """
        teachers = values.get("teachers")
        return cls(
            configuration.load(values["config"]), None if teachers is None else tuple(teachers), values.get("labels")
        )


def teacher_inputs(config: Config) -> dict[str, Any] | None:
    """Every setting that decides which teachers `config` has; None if it has none."""
    if config.method.teacher_output() is None:
        return None
    teacher = config.teacher
    if teacher.sources:
        return {"sources": list(teacher.sources)}
    return {
        **_of_training(teacher),
        "epochs": config.teacher_epochs,
        "batch_size": teacher.batch_size or config.data.batch_size,
        "precision": config.train.precision,
        "images": _images(config.data),
        **({"augment": chosen} if (chosen := teacher_augment(config).chosen()) else {}),
    }


def filled_teacher_inputs(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `teacher_inputs` gave in an earlier version, with the defaults of settings that came later."""
    return {**_of_training(TeacherConfig()), **stored, "images": {**_images(DataConfig()), **stored["images"]}}


def teacher_augment(config: Config) -> AugmentConfig:
    """The augmentation of the teachers that are trained for `config`: their own, else the student's."""
    return config.augment if config.teacher.augment is None else config.teacher.augment


def _of_training(teacher: TeacherConfig) -> dict[str, Any]:
    return teacher.model_dump(mode="json", exclude=set(NOT_OF_TRAINING))


def _images(data: DataConfig) -> dict[str, Any]:
    return data.model_dump(mode="json", exclude=set(NOT_OF_IMAGES))

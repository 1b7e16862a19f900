"""Decision on teachers and labels of a configuration, from its settings, the presets and the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.identity import images_identity
from raydistill.artifacts.labels import labels_key
from raydistill.artifacts.store import key_of
from raydistill.artifacts.teachers import provenance
from raydistill.config import Config, ConfigError
from raydistill.data.sources import Dataset
from raydistill.presets import load_preset
from raydistill.presets.sizes import fit_sizes
from raydistill.trial_spec import ARTIFACT_PREFIX, TrialSpec, teacher_augment


@dataclass(frozen=True)
class TeacherRun:
    """A run that makes a teacher, and the provenance that the store knows the teacher by."""

    config: Config
    provenance: dict[str, Any]

    @property
    def key(self) -> str:
        """The teacher's key in the store."""
        return key_of("teacher", self.provenance)


def teacher_configs(config: Config, images: int, fixed: Mapping[str, Any] | None = None) -> list[Config]:
    """The runs that make the teachers of `config`; none if it needs none, or names where they are.

    Args:
        config: of the student.
        images: training images, which sizes of the preset may exceed.
        fixed: settings by dotted path, in place of those of the preset of the teacher's method.
    """
    if config.method.teacher_output() is None or config.teacher.sources:
        return []
    made = [_teacher_config(config, index, fixed or {}) for index in range(config.teacher.count)]
    return [fit_sizes(each, images, given=["data.batch_size"]) for each in made]


def _teacher_config(config: Config, index: int, fixed: Mapping[str, Any]) -> Config:
    teacher = config.teacher
    preset = load_preset(teacher.method, teacher.preset)
    preset.pop("teacher", None)
    settings: dict[str, Any] = {
        "method.name": teacher.method,
        "method.backbone": teacher.backbone,
        "method.stem": teacher.stem,
        "method.zero_init_residual": teacher.zero_init_residual,
        "train.epochs": config.teacher_epochs,
        "train.seed": teacher.seed + index,
        "train.precision": config.train.precision,
    }
    if teacher.patience is not None:
        settings["train.patience"] = teacher.patience
    known = configuration.fields(teacher.method)
    settings = {path: value for path, value in fixed.items() if path in known} | settings
    values = configuration.assign(preset, settings)
    batch_size = teacher.batch_size or config.data.batch_size
    data = config.data.model_copy(update={"batch_size": batch_size, "stream_seed": 0, "fixed_views": None})
    same = {"data": data.model_dump(mode="json"), "augment": teacher_augment(config).model_dump()}
    return configuration.load(values | same | {"eval": {**config.eval.model_dump(), "trajectory": False}})


def redraw_teachers(config: Config, draw: int) -> Config:
    """Draw the teachers that are trained here and the pseudo labels anew, by other seeds; draw 0 is `config` itself.

    Several teachers have consecutive seeds, so each draw moves on by as many, and no two draws share a teacher.
    """
    method, teacher, source = config.method, config.teacher, config.method.label_source()
    if method.teacher_output() is not None and not teacher.sources:
        teacher = teacher.model_copy(update={"seed": teacher.seed + draw * teacher.count})
    if source is not None and source.kind != "true" and "label_seed" in type(method).model_fields:
        method = method.model_copy(update={"label_seed": source.seed + draw})
    return config.model_copy(update={"method": method, "teacher": teacher})


def teacher_runs(config: Config, dataset: Dataset, fixed: Mapping[str, Any] | None = None) -> list[TeacherRun]:
    """The runs that make the teachers of `config` on these images.

    Args:
        config: of the student.
        dataset: the images.
        fixed: settings by dotted path, in place of those of the preset of the teacher's method.
    """
    return [TeacherRun(made, provenance(made, dataset)) for made in teacher_configs(config, len(dataset.train), fixed)]


def teacher_keys(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """The store's key of each teacher that `config` needs. Raises: ConfigError for a source not yet located."""
    spec = TrialSpec(config)
    if spec.teachers is not None:
        return spec.teachers
    for source in config.teacher.sources:
        if not source.startswith(ARTIFACT_PREFIX):
            raise ConfigError(f"teacher.sources: {source!r} has not been taken into the store")
    return tuple(run.key for run in teacher_runs(config, dataset))


def resolve(spec: TrialSpec, dataset: Dataset) -> TrialSpec:
    """Decide the keys that `spec` leaves open; those that it has stay. Raises: ConfigError."""
    if spec.resolved:
        return spec
    teachers = teacher_keys(spec.config, dataset) if spec.teachers is None else spec.teachers
    source = spec.config.method.label_source()
    labels = spec.labels
    if source is not None and source.kind != "true":
        labels = labels or labels_key(source, images_identity(dataset, spec.config.data), teachers)
    return replace(spec, teachers=teachers, labels=labels)

"""The configuration tree: every setting of a run, its unit, default and bounds. Free of torch."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from raydistill.errors import RaydistillError
from raydistill.options import METHODS, MethodConfig, find
from raydistill.options.base import AugmentConfig, BaseConfig, Stem, TeacherFormat
from raydistill.options.evaluation import EvalConfig as EvalConfig


class ConfigError(RaydistillError, ValueError):
    """A setting is wrong; the message names the key, the value and what would be accepted."""

    exit_code = 2


@contextmanager
def data_errors() -> Iterator[None]:
    """Context in which errors of data or method, known before training, are those of a wrong setting."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


SEEDS = 2**32 - 1  # the greatest seed
TURNED = ("aerial", "microscopy")  # kinds of images without an up
DEFAULT_OFFSETS = ((0, 0),)  # of no late joiner: any epoch of the stream will do


class DataConfig(BaseConfig):
    """Settings of the images: source, splits, order. Learners share a pack when these agree."""

    source: str = Field("digits", description="digits, torchvision:NAME, or the path of a folder or of Parquet")
    labelled: str | None = Field(
        None,
        description="another source, whose labelled images give all scores, while all images of data.source train; "
        "none: the scores use the labels of data.source; `--labelled`",
    )
    root: str = Field("data", description="where torchvision keeps its downloads")
    download: bool = Field(False, description="let torchvision download")
    image_size: int | None = Field(None, ge=4, description="pixels; none picks the source's own size")
    batch_size: int = Field(128, ge=2, description="images per optimisation step, over all workers")
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="of train, stratified")
    split_seed: int = Field(0, ge=0, le=SEEDS, description="which images are held out for validation and test")
    split: Literal["draw", "names"] = Field(
        "draw",
        description="draw: hold out a random share of each class; names: an image's name decides, so that it stays "
        "held out while a folder grows",
    )
    stream_seed: int = Field(0, ge=0, le=SEEDS, description="order of the images and draws of the augmentations")
    limit: int | None = Field(None, ge=1, description="keep at most this many images of each split")
    fixed_views: int | None = Field(
        None, ge=1, description="draw so many augmentations of each image and repeat them; none: fresh every epoch"
    )
    on_bad_image: Literal["fail", "skip"] = Field("fail", description="skip passes over it and counts it")
    kind: Literal["photographs", "characters", "aerial", "microscopy", "grey", "auto"] = Field(
        "photographs",
        description="fits every recipe to the images: characters, without mirroring and with large crops; aerial, "
        "turned and mirrored each way; microscopy, the same with little colour jitter; grey, without colour; auto: "
        "characters for the digits, else photographs; `--kind`",
    )
    resize: int | None = Field(None, ge=16, description="short side, in pixels, to which larger images are decoded")
    cache_gib: float = Field(2.0, ge=0, description="decode once and keep in memory up to this size")
    disk_cache_gib: float = Field(
        0.0, ge=0, description="keep decoded on disk what does not fit in memory, up to this size in all"
    )


class TrainConfig(BaseConfig):
    """The optimisation of one learner. Defaults are DoGo's: Adam, constant 3e-4, weight decay 1e-6."""

    epochs: int = Field(10, ge=1, description="passes over the training images; `--epochs`")
    seed: int = Field(0, ge=0, le=SEEDS, description="initial weights and every draw inside the learner")
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    lr: float = Field(3e-4, gt=0, description="learning rate, the largest of its schedule")
    lr_scaling: Literal["none", "linear"] = Field("none", description="linear multiplies by batch_size / 256")
    weight_decay: float = Field(1e-6, ge=0, description="decoupled in adamw, else L2")
    decay: Literal["all", "matrices"] = Field(
        "all", description="what weight decay applies to; matrices: not to biases and norms (SDSSL, LARS recipes)"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and lars only")
    nesterov: bool = Field(False, description="sgd and lars only")
    lars_eta: float = Field(0.001, gt=0, description="trust coefficient of lars")
    schedule: Literal["constant", "cosine", "step"] = "constant"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.6, 0.8), description="of schedule step: shares of training after which lr is multiplied by gamma"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="of schedule step")
    schedule_unit: Literal["step", "epoch"] = Field("step", description="epoch: the rate changes between epochs only")
    warmup_epochs: float = Field(0, ge=0, description="linear, from 0")
    patience: int | None = Field(
        None,
        ge=1,
        description="end early when so many validation scores in a row rose by no more than their standard error; "
        "those of the warm-up and of the first quarter of the epochs do not count; the rate is held until then, and a "
        "cosine falls over the last fifth. none: all epochs",
    )
    clip_norm: float | None = Field(None, gt=0, description="longest gradient; none: not clipped")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU that has it, else fp32")
    checkpoint_every: int = Field(1, ge=1, description="epochs between checkpoints; a trial stopped before has none")
    sync_batchnorm: bool = Field(True, description="on several GPUs; on CPU batch norm is per worker")
    offsets: tuple[tuple[int, int], ...] = Field(
        DEFAULT_OFFSETS, description="(e, k): from epoch e on, the stream's epoch is e + k; replays a late joiner"
    )

    @field_validator("patience")
    @classmethod
    def _of_open_length(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("schedule") == "step":
            raise ValueError("the milestones of schedule step are shares of a known length; use constant or cosine")
        return patience


class TeacherConfig(BaseConfig):
    """The frozen teachers of methods that have any. Without `sources` they are trained first, once."""

    sources: tuple[str, ...] = Field(
        (),
        description="folders of runs, timm or transformers, artifact:KEY, timm:NAME, torchvision:NAME, released files",
    )
    format: TeacherFormat = Field("auto", description="layout of a released checkpoint file")
    backbone: str = Field("resnet18_w32", description="of a teacher trained here, or of a released file")
    stem: Stem = Field("auto", description="as for the student")
    zero_init_residual: bool | None = Field(None, description="of a teacher trained here; as for the student")
    method: Literal["simclr", "simsiam", "byol", "mocov2", "mocov3"] = Field(
        "simclr", description="the baseline that trains it"
    )
    preset: str = Field("default", description="of that baseline: its heads and its optimisation")
    count: int = Field(1, ge=1, description="how many to train, with seeds of their own")
    epochs: int | None = Field(None, ge=1, description="of its training; none: the student's times epochs_factor")
    epochs_factor: float = Field(1.0, gt=0, description="epochs of its training for each of the student's, rounded")
    patience: int | None = Field(
        None,
        ge=1,
        description="train.patience of its training: end early when its score has settled, not before a quarter of its "
        "epochs; none: all epochs",
    )
    batch_size: int | None = Field(None, ge=2, description="of its training; none: the student's")
    augment: AugmentConfig | None = Field(
        None, description="settings of the section augment, of its training; none: the student's, or the sweep's base"
    )
    seed: int = Field(0, ge=0, le=SEEDS, description="of its training")
    bank: bool = Field(True, description="with data.fixed_views: keep its embeddings, and train without running it")


class Config(BaseConfig):
    """One run, complete: what `raydistill train` takes and what every trial logs."""

    method: SerializeAsAny[MethodConfig]
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    teacher: TeacherConfig = TeacherConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @field_validator("method", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict):
            return options_class(value.get("name")).model_validate(value)
        return value

    @field_validator("augment")
    @classmethod
    def _fits_the_images(cls, augment: AugmentConfig, info: ValidationInfo) -> AugmentConfig:
        """Refuse settings that contradict each other, or that can change nothing in such images."""
        data = info.data.get("data")
        kind = data.kind if isinstance(data, DataConfig) else ""
        turns = kind in TURNED if augment.turns is None else augment.turns
        for name in ("mirror", "mirror_vertical") if turns else ():
            if getattr(augment, name) is not None:
                why = f"data.kind={kind}" if augment.turns is None else "augment.turns=true"
                raise ValueError(f"{name} has no effect beside {why}, which mirrors views each way; take one out")
        for name in ("saturation", "hue", "grey") if kind == "grey" else ():
            if getattr(augment, name):
                raise ValueError(f"{name} has no effect beside data.kind=grey: there is no colour to change")
        return augment

    @property
    def teacher_epochs(self) -> int:
        """Epochs of a teacher that is trained for this run: those given, else in proportion to the student's."""
        return self.teacher.epochs or max(1, round(self.train.epochs * self.teacher.epochs_factor))


def options_class(name: Any) -> type[MethodConfig]:
    """The options of the method called `name`. Raises ConfigError for an unknown one."""
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"method {name!r} is unknown{nearest(str(name), METHODS)}")
    return find(name)


def load(values: dict[str, Any]) -> Config:
    """Validate a nested mapping. Raises ConfigError, naming the key, the value and the nearest valid name."""
    if not isinstance(values, dict):
        raise ConfigError(f"expected a mapping of sections, got {type(values).__name__}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        method = values.get("method")
        name = method.get("name") if isinstance(method, dict) else method
        if name is None:
            raise ConfigError(f"method.name is missing; valid: {', '.join(METHODS)}") from None
        raise ConfigError(_explain(error, paths(str(name)))) from None


def read(path: Readable, called: str = "") -> Config:
    """The configuration in a YAML file. Raises ConfigError, naming the file, or what it is called."""
    values = read_yaml(path)
    try:
        return load(values)
    except ConfigError as error:
        raise ConfigError(f"{called or path}: {error}") from None


def dump(config: Config) -> dict[str, Any]:
    """The configuration as plain nested values (lists, numbers, strings), ready for YAML or JSON."""
    return config.model_dump(mode="json")


def paths(method: str) -> dict[str, Any]:
    """Every dotted path that a run of `method` can set, with its annotation."""
    return {path: info.annotation for path, info in fields(method).items()}


def fields(method: str) -> dict[str, FieldInfo]:
    """Every dotted path that a run of `method` can set, with its declaration. Raises: ConfigError."""
    sections: dict[str, type[BaseModel]] = {
        "method": options_class(method),
        "data": DataConfig,
        "augment": AugmentConfig,
        "teacher": TeacherConfig,
        "train": TrainConfig,
        "eval": EvalConfig,
    }
    return {
        f"{section}.{field}": info for section, model in sections.items() for field, info in model.model_fields.items()
    }


def assign(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested `values` in which each dotted path of `settings` is set."""
    if isinstance(values.get("method"), str):
        values = values | {"method": {"name": values["method"]}}
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for path, value in settings.items():
        section, _, field = path.partition(".")
        branch = merged.setdefault(section, {})
        if not field or not isinstance(branch, dict):
            raise ConfigError(f"{path!r} is not a setting; write section.field, for instance train.lr")
        branch[field] = value
    return merged


def parse_setting(text: str) -> tuple[str, Any]:
    """`train.lr=1e-3` as a path and a value read as YAML (lists in brackets). Raises ConfigError."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text!r}: write section.field=value, for instance train.lr=0.001")
    try:
        return path.strip(), number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        cause = " ".join(str(error).split())
        raise ConfigError(f"--set {text!r}: the value is not valid YAML ({cause})") from None


def number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; read it as the number that everybody means."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return [number(item) for item in value]
    return value


class Readable(typing.Protocol):
    """A path, of this machine or elsewhere."""

    def read_text(self) -> str: ...


def read_yaml(path: Readable) -> Any:
    """Plain YAML only. Raises ConfigError for tags, duplicate keys and syntax errors."""
    try:
        return yaml.load(path.read_text(), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def nearest(name: str, valid: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid name, or the list when nothing is near."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"


def takes(annotation: Any, kind: type) -> bool:
    """Return whether a field takes values of one kind only: `int` or `float` (an optional one included)."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return all(takes(arg, kind) for arg in typing.get_args(annotation) if arg is not type(None))
    return annotation is kind


def _explain(error: ValidationError, valid: dict[str, Any]) -> str:
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            lines.append(f"{path}: no such section{nearest(path, Config.model_fields)}")
        elif item["type"] == "extra_forbidden":
            lines.append(f"{path} = {item['input']!r}: no such setting{nearest(path, valid)}")
        elif len(item["loc"]) == 1 and isinstance(item["input"], dict):
            lines.append(f"{path}: {item['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{path} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)

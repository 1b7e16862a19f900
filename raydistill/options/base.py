"""What all methods' options have in common, and what a method may ask of the pack that trains it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Stem = Literal["auto", "imagenet", "small", "stride2"]
Output = Literal["features", "head"]
RecipeName = Literal[
    "moco1",
    "moco2",
    "byol1",
    "byol2",
    "simclr",
    "simsiam_dogo",
    "swav",
    "swav_small",
    "weak",
    "small",
    "rrcflip",
    "cifar_sup",
    "cifar_auto",
    "clusterfit",
    "eval",
]
LabelKind = Literal["kmeans", "random", "prototypes", "true"]


class BaseConfig(BaseModel):
    """What every part of a configuration has in common: values as one would type them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_typed(cls, value: Any, info: ValidationInfo) -> Any:
        """`none` for no value, `true` where that is a name; a yes or no is no number."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        members = get_args(annotation)
        if value == "none" and type(None) in members:
            return None
        if isinstance(value, bool):
            if str(value).lower() in members:
                return str(value).lower()
            if {annotation, *members} & {int, float}:
                raise ValueError("a number is expected, not yes or no")
        return value


class LabelSource(BaseModel):
    """Where the class of each training image comes from.

    `kmeans`: the cluster of the first teacher's features of the un-augmented image; `prototypes`: the same
    with no iteration, the centroids being `clusters` images drawn at random; `random`: a uniform draw;
    `true`: the data set's labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: LabelKind
    clusters: int = 0
    iterations: int = 20
    seed: int = 0


class MethodConfig(BaseConfig):
    """Base of every method's options. `name` selects the method; `implementation` says where it lives."""

    implementation: ClassVar[str]

    name: str
    stem: Stem = Field("auto", description="first layers of the backbone; auto picks by image size")

    def baseline(self) -> MethodConfig:
        """The same student trained without distillation, under the same settings."""
        return self

    def teacher_output(self) -> Output | None:
        """What the method looks at of its frozen teachers; None: it has none."""
        return None

    def label_source(self) -> LabelSource | None:
        """The classes that the method trains on; None: it trains on none."""
        return None

    def follows_length(self) -> bool:
        """Whether the method has a schedule over all of training, so that a longer one differs from its start on."""
        return False

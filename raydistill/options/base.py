"""Base of all methods' options, and what a method may ask of the pack that trains it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from raydistill.options.momentum import Momentum, MomentumWindow

Stem = Literal["auto", "narrow", "imagenet", "small", "stride2"]
TeacherFormat = Literal[
    "auto",
    "mocov2",
    "mocov3",
    "swav",
    "byol",
    "simclr",
    "dino",
    "seed",
    "solo-learn",
    "lightly-train",
    "vissl",
    "openmmlab",
    "plain",
]
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
    """Base of every part of a configuration: values as one would type them."""

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


class AugmentConfig(BaseConfig):
    """Changes to the recipes of all views but the plain image that is evaluated; none: as the recipe has it."""

    min_crop: float | None = Field(
        None,
        gt=0,
        le=1,
        description="smallest share of the image in a crop; padded crops become resized ones",
    )
    mirror: float | None = Field(None, ge=0, le=1, description="share of the views that is mirrored left to right")
    mirror_vertical: float | None = Field(
        None, ge=0, le=1, description="share of the views that is mirrored top to bottom"
    )
    turns: bool | None = Field(None, description="turn views by quarters and mirror them each way, as data.kind=aerial")
    rotation: float | None = Field(None, ge=0, le=180, description="largest angle in degrees, to either side")
    jitter: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the views whose colours are jittered; a recipe without jitter gets brightness and "
        "contrast of 0.4",
    )
    brightness: float | None = Field(None, ge=0, le=2, description="strength of its jitter")
    contrast: float | None = Field(None, ge=0, le=2, description="strength of its jitter")
    saturation: float | None = Field(None, ge=0, le=2, description="strength of its jitter")
    hue: float | None = Field(None, ge=0, le=0.5, description="strength of its jitter, in turns of the colour circle")
    grey: float | None = Field(None, ge=0, le=1, description="share of the views that is grey")
    blur: float | None = Field(None, ge=0, le=1, description="share of the views that is blurred, at any image size")
    blur_sigma: float | None = Field(
        None,
        gt=0,
        le=0.25,
        description="largest sigma as a share of the image's side, the smallest a twentieth of it; published recipes "
        "have 0.1 to 2 pixels, of 224 a share of 0.009; none: those pixels",
    )
    solarize: float | None = Field(None, ge=0, le=1, description="share of the views that is solarised")
    cutout: float | None = Field(None, ge=0, lt=1, description="side of the hole as a share of the image's; 0: no hole")

    def chosen(self) -> dict[str, Any]:
        """The settings that have a value."""
        return self.model_dump(exclude_none=True)


class LabelSource(BaseModel):
    """Source of the class of each training image.

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
    # Settings between whose values the training loss compares, so that a search may minimise it. Others change its
    # scale: temperatures, weights of terms, queues, clusters, views.
    comparable_loss: ClassVar[tuple[str, ...]] = ("stem",)

    name: str
    stem: Stem = Field(
        "auto",
        description="first layers of the backbone; auto picks by image size; narrow: as auto, and of `resnet10_w16` "
        "and its like as wide as the first stage",
    )
    zero_init_residual: bool | None = Field(
        None,
        description="residual blocks start as the identity, their last norm at 0; none: as the library has it, "
        "true of timm's ResNets and of the narrow ones, false of torchvision's",
    )

    def baseline(self) -> MethodConfig:
        """The same student trained without distillation, under the same settings."""
        return self

    def student_backbone(self) -> str:
        """The network that is trained to be used, among those that the method trains."""
        return str(getattr(self, "backbone", ""))

    def student_recipes(self) -> tuple[RecipeName, RecipeName]:
        """Recipes of the student's two views; the same one twice where the method has one."""
        pair: tuple[RecipeName, RecipeName] | None = getattr(self, "recipes", None)
        if pair is not None:
            return pair
        recipe: RecipeName = getattr(self, "student_recipe", None) or getattr(self, "recipe", None) or "simclr"
        return recipe, getattr(self, "second_recipe", None) or recipe

    def with_student_of(self, other: MethodConfig) -> MethodConfig:
        """Return this method with the student of another one: its backbone, its first layers and its augmentation.

        Whether they fit together is not checked.
        """
        common = {name: getattr(other, name) for name in MethodConfig.model_fields if name != "name"}
        first, second = other.student_recipes()
        own: dict[str, Any] = {"backbone": other.student_backbone(), "recipe": first, "student_recipe": first}
        own |= {"second_recipe": None if second == first else second, "recipes": (first, second)}
        has = type(self).model_fields
        return self.model_copy(update={**common, **{name: value for name, value in own.items() if name in has}})

    def teacher_output(self) -> Output | None:
        """Output of its frozen teachers that the method looks at; None: it has none."""
        return None

    def label_source(self) -> LabelSource | None:
        """The classes that the method trains on; None: it trains on none."""
        return None

    def ema(self) -> Momentum | None:
        """Momentum of the network that follows the trained one; None: the method has none."""
        return None

    def follows_length(self) -> bool:
        """Return whether a schedule spans all of training, so that a longer training differs from its start on."""
        return False

    def regresses(self) -> bool:
        """Return whether the method predicts its teachers' outputs, so that the error on held-out images is scored."""
        return False


class MomentumConfig(MethodConfig):
    """Options of methods whose momentum network follows the trained one: BYOL and MoCo v3."""

    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone", "hidden_dim")

    backbone: str = "resnet10_w16"
    hidden_dim: int = Field(4096, ge=1, description="hidden width of projector and predictor")
    projection_dim: int = Field(256, ge=1)
    projector_layers: int = Field(3, ge=2)
    momentum: float = Field(0.99, ge=0, le=1, description="of the EMA at the first step; rises to 1 on a cosine")
    momentum_window: MomentumWindow = None
    recipes: tuple[RecipeName, RecipeName] = Field(("byol1", "byol2"), description="of the two views")
    encoder: Literal["student", "ema"] = Field(
        "student", description="which network is scored, exported, and teaches: the trained one or its average"
    )

    def ema(self) -> Momentum:
        return Momentum("momentum", self.momentum, self.momentum_window, rises=True)

    def follows_length(self) -> bool:
        return True


class PseudoLabelConfig(MethodConfig):
    """Options of methods that learn pseudo labels, by default clusters of a teacher's features."""

    comparable_loss: ClassVar[tuple[str, ...]] = ("stem", "backbone")

    backbone: str = "resnet10_w16"
    labels: LabelKind = "kmeans"
    clusters: int = Field(50, ge=2)
    kmeans_iterations: int = Field(20, ge=1)
    label_seed: int = Field(0, ge=0)

    def teacher_output(self) -> Output | None:
        return "features" if self.labels in ("kmeans", "prototypes") else None

    def label_source(self) -> LabelSource | None:
        return LabelSource(
            kind=self.labels, clusters=self.clusters, iterations=self.kmeans_iterations, seed=self.label_seed
        )

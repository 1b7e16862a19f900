"""Settings of the section `eval`: scores during training, and those of finished networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from raydistill.options.base import BaseConfig

DEFAULT_KS = (1, 2, 4, 8)
Share = Annotated[float, Field(gt=0, le=100)]
Rate = Annotated[float, Field(ge=0, le=1)]


class EvalConfig(BaseConfig):
    """Settings of the scores during training; on the validation split, never on test."""

    every: int = Field(1, ge=1, description="epochs between two scores; the last epoch is always scored")
    knn: Literal["dogo", "dino", "simreg", "seed"] = Field(
        "dogo",
        description="k-NN as in the papers. dogo: a majority vote, averaged over eval.ks; dino (SDSSL): k = 20, votes "
        "weighted by exp(cos / 0.07), beside it k = 10, 100 and 200; simreg: a majority vote, k = 20, beside it k = 1, "
        "ties broken at random; seed: a majority vote, k = 10, on the SSL head's output where there is one",
    )
    ks: tuple[int, ...] = Field(DEFAULT_KS, min_length=1, description="k-NN dogo: mean accuracy over these k")
    encoders: Literal["student", "all"] = Field(
        "student", description="all: also DoGo's peers, exits, and the blocks of a ViT (SDSSL, its baselines, SEED)"
    )
    bank_images: int | None = Field(None, ge=1, description="k-NN: compare with a sample of so many training images")
    probe: Literal["dogo", "simreg", "seed", "mocov3", "logistic"] = Field(
        "dogo",
        description="linear probe at the end: as the code of DoGo, SimReg, SEED or MoCo v3 (SDSSL) has it, without "
        "augmentation, or logistic regression to convergence on standardised features",
    )
    probe_epochs: int = Field(100, ge=1, description="epochs of the probe dogo; the others have their own")
    probe_lr: Annotated[float, Field(gt=0)] | tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None,
        description="learning rate of the probe for a batch of 256, or several, of which validation chooses; none: its "
        "own. seed has 30, and 3 for MobileNet and EfficientNet; mocov3 has 3 for ViTs, and 0.1 for ResNets; of "
        "logistic nothing",
    )
    labels_per_class: tuple[int, ...] | None = Field(
        None,
        description="final scores with so few labels of each class; none: 1, 5 and 20 where only a part of the images "
        "has labels or data.labelled is set, else no such scores",
    )

    tasks: tuple[str, ...] = Field(
        (),
        description="further final scores: TASK, or TASK:DATA for images of its own, such as noise, "
        "transfer:torchvision:CIFAR100 or video:path/to/DAVIS; docs/tasks.md lists them",
    )
    label_percents: tuple[Share, ...] = Field(
        (1, 5, 10, 20, 50, 100), min_length=1, description="tasks fractions and tuned_fractions: % of the labels"
    )
    noise_rates: tuple[Rate, ...] = Field(
        (0, 0.2, 0.4, 0.6, 0.8), min_length=1, description="task noise: shares of training labels that are drawn anew"
    )
    tune: Literal["dogo", "sdssl", "sssd"] = Field(
        "dogo", description="recipe of the tasks that train the whole network: as DoGo, SDSSL (MoCo v3) or SSSD has it"
    )
    tune_epochs: int | None = Field(None, ge=1, description="of that training; none: the recipe's")
    trajectory: bool = Field(
        False,
        description="keep the student's features of 200 validation images whenever it is scored (eval.every); a sweep "
        "draws the ways of all final runs through function space, as DoGo's figure 5",
    )
    detector: Literal["c4", "fpn"] = Field("c4", description="task detection: Faster or Mask R-CNN on this neck")
    detector_steps: int | None = Field(None, ge=1, description="task detection: training steps; none: the papers'")

    @field_validator("ks")
    @classmethod
    def _positive(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1:
            raise ValueError("every k must be at least 1")
        return ks

    @model_validator(mode="after")
    def _own_ks(self) -> EvalConfig:
        if self.knn != "dogo" and self.ks != DEFAULT_KS:
            raise ValueError(f"ks = {list(self.ks)} belong to knn: dogo; {self.knn} has its own")
        return self

    @field_validator("labels_per_class")
    @classmethod
    def _at_least_one(cls, counts: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if counts and min(counts) < 1:
            raise ValueError("every number of labels must be at least 1")
        return counts

"""The list of all tasks, and how they are named. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raydistill.config import ConfigError, nearest

TOY = "toy"  # data of a task: images that it draws itself, to try it out
Needs = Literal["features", "weights", "maps", "teachers"]
Data = Literal["own", "either", "images", "folder"]


@dataclass(frozen=True)
class Task:
    """One task: its module has `score(subject: Subject) -> Findings`; with data in a folder also `draw(folder)`.

    Args:
        module: in `raydistill.evaluation.tasks`.
        about: what it measures, in a line.
        needs: of the network: features alone, weights that can be trained, `maps` (see `Backbone.maps`), or teachers.
        data: `own`: the run's images; `either`: those, or others that are named; `images`: others, as `--data` takes
            them; `folder`: a benchmark's folder, or `toy`.
        labels: whether it needs the labels of the run's images.
    """

    module: str
    about: str
    needs: Needs = "features"
    data: Data = "own"
    labels: bool = True


# docs/architecture.md#tasks
TASKS: Mapping[str, Task] = {
    "noise": Task("noise", "linear probe that learns from labels of which a share is drawn anew (DoGo, figure 3)"),
    "fractions": Task("fractions", "linear probe that learns from a share of the labels (SEED, figure 3)"),
    "tuned_fractions": Task(
        "tuned_fractions", "whole network trained on a share of the labels (DoGo, table 2; SSSD, table 4)", "weights"
    ),
    "tuned": Task("tuned", "whole network trained on all labels (SDSSL, table 5)", "weights", "either"),
    "tuned_kd": Task(
        "tuned_kd", "whole network trained on labels and on a teacher that was trained on them (SEED)", "teachers"
    ),
    "transfer": Task(
        "transfer", "k-NN and linear probe on other images (SimReg, table 5; DoGo, table 3)", "features", "images"
    ),
    "alignment": Task("alignment", "alignment, uniformity and D (SDSSL, figures 6 and 7)", labels=False),
    "tsne": Task("tsne", "t-SNE picture of test images of five classes (SDSSL, figure 9)"),
    "retrieval": Task("retrieval", "revisited Oxford and Paris, mAP (SDSSL, table 4)", "features", "folder"),
    "copies": Task("copies", "copy detection on Copydays, mAP (SDSSL, table 7)", "maps", "folder"),
    "video": Task("video", "video segmentation on DAVIS 2017, J and F (SDSSL, tables 8 to 10)", "maps", "folder"),
    "detection": Task(
        "detection", "detection on VOC or COCO, AP (SEED, table 2; SimReg, table 6)", "weights", "folder"
    ),
}
"""Every task by the name that `eval.tasks` and `raydistill evaluate --task` take."""


def parse(text: str) -> tuple[str, str]:
    """The name of a task and its data, from `TASK` or `TASK:DATA`. Raises: ConfigError."""
    name, _, source = text.partition(":")
    if name not in TASKS:
        raise ConfigError(f"eval.tasks: {text!r} is unknown{nearest(name, TASKS)}")
    data = TASKS[name].data
    if data == "own" and source:
        raise ConfigError(f"eval.tasks: {text!r}: {name} scores on the run's own images; write {name}")
    if data in ("images", "folder") and not source:
        what = "images, as --data takes them" if data == "images" else f"the benchmark's folder, or {TOY}"
        raise ConfigError(f"eval.tasks: {text!r}: write {name}:DATA, where DATA is {what}")
    return name, source


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuse tasks that are unknown, or whose scores would have the same names. Raises: ConfigError."""
    seen: dict[tuple[str, str], str] = {}
    for text in tasks:
        name, source = parse(text)
        key = (name, slug(source) if TASKS[name].data in ("images", "either") and source else "")
        if key in seen:
            raise ConfigError(f"eval.tasks: {seen[key]!r} and {text!r}: their scores have the same names")
        seen[key] = text


def slug(source: str) -> str:
    """The name of images in metrics, of a-z, 0-9, _ and -: `cifar100` of `torchvision:CIFAR100`, of a path its last."""
    last = Path(source.rpartition(":")[2]).expanduser()
    name = last.name if last.name not in ("", "..") else last.resolve().name
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "images"

"""Reference scores that say what a result is worth: raw pixels, the untrained student and the teachers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from raydistill import methods
from raydistill.artifacts import teachers as artifacts
from raydistill.artifacts.store import open_store
from raydistill.config import Config
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import normalization
from raydistill.evaluation.final import score_encoder, teachers_of
from raydistill.evaluation.tasks.names import parse
from raydistill.evaluation.teacher_features import TeacherFeatures
from raydistill.storage import to_path
from raydistill.training.checkpoint_files import CheckpointError
from raydistill.training.checkpoints import latest_checkpoint

PIXELS_SIDE = 32
Rows = dict[str, list[dict[str, float]]]


class RawPixels(nn.Module):
    """No network: images (N, 3, S, S) -> (N, D), their pixels; larger ones are averaged down to 32 px a side."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] > PIXELS_SIDE:
            images = adaptive_avg_pool2d(images, PIXELS_SIDE)
        return images.flatten(1)


def _but_detection(config: Config) -> Config:
    """The configuration without the one task that takes days: a detector is not trained for a reference."""
    tasks = tuple(text for text in config.eval.tasks if parse(text)[0] != "detection")
    return config.model_copy(update={"eval": config.eval.model_copy(update={"tasks": tasks})})


def untrained_student(config: Config, directory: str) -> nn.Module:
    """The student as it was before the first step of a run: its weights are drawn from the run's seed again.

    Args:
        config: of the run.
        directory: of its checkpoints, which say what the method was built for.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    return _untrained(config, directory).encoders()["student"]


def _untrained(config: Config, directory: str) -> methods.Method:
    state = latest_checkpoint(to_path(directory))
    if state is None:
        raise CheckpointError(f"{directory}: no checkpoint")
    return methods.build(config.method, artifacts.given_from(state), seed=config.train.seed)


def score_references(
    runs: Sequence[tuple[Config, str]],
    teachers: Sequence[tuple[str, ...]],
    store: str,
    *,
    threads: int,
    gpu: bool = False,
    rows: Mapping[str, tuple[str, ...]] | None = None,
    only: Collection[str] | None = None,
) -> Rows:
    """Score what a winner has to beat, on the same splits and by the same evaluation as the winner itself.

    Args:
        runs: the winner's final runs, one for each seed: configuration and directory of the checkpoints.
        teachers: the keys of each run's frozen teachers.
        store: the address of the store that has them.
        threads: of torch.
        gpu: whether to use one.
        rows: the keys of the teachers to score, by the names of their rows; None: those of `teachers`, by position.
        only: the names of the rows to score; None: all.

    Returns: the scores by the name of the row: `pixels`; `untrained`, with one entry for each run; then the rows of
        teachers, `teacher`, or `teacher-1`, `teacher-2`, ... where a run has several, with one entry for each that
        differs between the runs.

    Raises:
        CheckpointError: a run has no whole checkpoint.
        ArtifactError: a teacher is not in the store.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if gpu else "cpu")
    config = runs[0][0]
    dataset = load_dataset(config.data)
    shown = normalization(dataset.name, dataset.image_size)
    frozen = _by_position(teachers) if rows is None else rows
    found: Rows = {}
    for name in ("pixels", "untrained", *frozen):
        if only is not None and name not in only:
            continue
        if name == "pixels":
            found[name] = [score_encoder(RawPixels(), dataset, config, device, trained=False)]
        elif name == "untrained":
            found[name] = []
            for (own, place), keys in zip(runs, [*teachers] or [()] * len(runs), strict=True):
                method = _untrained(own, place)
                student, head = method.encoders()["student"], method.head()
                taught = teachers_of(own, dataset, device, keys, store)
                scores = score_encoder(student, dataset, _but_detection(own), device, head, teachers=taught)
                found[name].append(scores)
        else:
            loaded = (artifacts.load(open_store(to_path(store)), key, shown, device) for key in frozen[name])
            found[name] = [
                score_encoder(TeacherFeatures(each), dataset, config, device, each.head, trained=False)
                for each in loaded
            ]
    return found


def _by_position(teachers: Sequence[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The keys of the teachers by the names of their rows."""
    columns = list(zip(*teachers, strict=True))
    names = ["teacher"] if len(columns) == 1 else [f"teacher-{number}" for number in range(1, len(columns) + 1)]
    return {name: tuple(dict.fromkeys(keys)) for name, keys in zip(names, columns, strict=True)}

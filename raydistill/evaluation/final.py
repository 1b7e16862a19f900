"""The score of a finished configuration: k-NN and linear probe, the test split included, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raydistill import methods
from raydistill.artifacts import teachers as artifacts
from raydistill.artifacts.store import open_store
from raydistill.config import Config
from raydistill.data.sources import Dataset, OpenedDatasets, load_dataset
from raydistill.data.views.augment import normalization
from raydistill.errors import RaydistillError, one_line
from raydistill.evaluation.features import embed
from raydistill.evaluation.few_labels import counts_of, few_label_scores, knn_hits, named
from raydistill.evaluation.held_out import HeldOutDistance
from raydistill.evaluation.knn import knn_scores
from raydistill.evaluation.online import BATCH, embed_split, has_room, instance_score
from raydistill.evaluation.probes import fit_probe
from raydistill.evaluation.protocols import knn_protocol
from raydistill.evaluation.tasks.base import Findings, Subject, run_tasks
from raydistill.evaluation.tasks.names import TASKS, parse
from raydistill.evaluation.teacher_features import TeacherFeatures
from raydistill.storage import StoragePath, to_path
from raydistill.training.checkpoint_files import LEFT_OUT, PICTURES, CheckpointError
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.member import scored_encoders
from raydistill.training.memory import lost_device, out_of_memory, release
from raydistill.training.teachers import held_out_outputs

log = logging.getLogger(__name__)
Teachers = tuple[str, ...]  # their keys in the store


def score_all(
    runs: Sequence[tuple[Config, str]],
    *,
    threads: int,
    gpu: bool = False,
    teachers: Sequence[Teachers] = (),
    store: str | None = None,
) -> list[dict[str, float] | str]:
    """Score several finished configurations, one after the other, on images that are opened and decoded once.

    Args:
        runs: configuration and directory of the checkpoints of each.
        threads: of torch.
        gpu: whether to use one.
        teachers: the frozen teachers of each; none are needed but by methods that regress them.
        store: the address of the store that has them.

    Returns: the scores of each, as by `score`, or in a line why it has none.

    Raises:
        RuntimeError: the GPU failed, and no other run can be scored in this process.
    """
    datasets = OpenedDatasets()
    common: dict[str, Any] = {"threads": threads, "gpu": gpu, "store": store}
    keys = [*teachers] or [()] * len(runs)
    found: list[dict[str, float] | str] = []
    for (config, place), own in zip(runs, keys, strict=True):
        try:
            found.append(score(config, place, dataset=datasets(config.data), teachers=own, **common))
        except Exception as error:
            if lost_device(error):
                raise
            log.debug("%s could not be scored", place, exc_info=error)
            found.append(one_line(error))
    return found


def score(
    config: Config,
    directory: str,
    *,
    threads: int,
    gpu: bool = False,
    dataset: Dataset | None = None,
    teachers: Teachers = (),
    store: str | None = None,
) -> dict[str, float]:
    """Score the student in the newest checkpoint; with `eval.encoders: all` every encoder.

    Accuracy by k-NN against the training split, by the protocol `eval.knn`, and of the linear probe that `eval.probe`
    names, trained on it and chosen on validation. Where there are several encoders also `test_probe_ensemble`, of the
    mean of their probes' logits. Where a split has no labels, `test_instance`: how often a crop of a test image finds
    the other crop of it. Of a method that regresses its teachers also `test_mse`, the error of its prediction. What
    `eval.tasks` finds is added; its pictures go into the folder `pictures` of the directory.
    The student is also scored with few labels, see `few_label_scores`, where there are few or `eval.labels_per_class`
    asks for it.

    Args:
        config: a resolved configuration.
        directory: of the checkpoints.
        threads: of torch.
        gpu: whether to use one.
        dataset: that of `config.data`, if it is open.
        teachers: its frozen teachers; `test_mse` is left out without them.
        store: the address of the store that has them.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    torch.set_num_threads(threads)
    state = latest_checkpoint(to_path(directory))
    if state is None:
        raise CheckpointError(f"{directory}: no checkpoint")
    dataset = load_dataset(config.data) if dataset is None else dataset
    labelled = _has_labels(dataset)
    method = methods.build(config.method, artifacts.given_from(state), seed=0)
    method.load_state_dict(state["method"])
    device = torch.device("cuda" if gpu else "cpu")
    scores: dict[str, float] = {}
    logits: list[Tensor] = []
    left_out: list[str] = []
    taught = teachers_of(config, dataset, device, teachers, store)
    labels = torch.empty(0)
    for name, encoder in scored_encoders(method, config.eval.encoders).items():
        encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if labelled:
            head = method.head() if name == "student" else None
            found, test_logits, labels = _score(encoder, dataset, config, device, head, few=name == "student")
            if name != "head":  # SEED's, on top of the student: no second opinion
                logits.append(test_logits)
        else:
            found = {"test_instance": instance_score(encoder, dataset, dataset.test, device)}
        if config.eval.tasks:
            seen = Subject(encoder, dataset, config, device, taught)
            tried = _run_tasks(seen, to_path(directory) / PICTURES, "" if name == "student" else f"_{name}")
            found |= tried.scores
            left_out += [f"task {text} of {name}: {why}\n" for text, why in tried.left_out.items()]
        scores |= {metric + ("" if name == "student" else f"_{name}"): value for metric, value in found.items()}
    if config.eval.tasks:  # also where all went well, after a time when it did not
        (to_path(directory) / LEFT_OUT).write_text("".join(left_out))
    if len(logits) > 1:
        mean = torch.stack(logits).mean(0)
        scores["test_probe_ensemble"] = torch.eq(mean.argmax(1), labels).double().mean().item()
    if config.method.regresses() and teachers and store is not None:
        try:
            scores["test_mse"] = _held_out_error(method, config, dataset, device, teachers, store)
        except (RaydistillError, OSError) as error:
            log.warning("test_mse is left out: %s", error)
    return scores


def score_encoder(
    encoder: nn.Module,
    dataset: Dataset,
    settings: Config,
    device: torch.device,
    head: nn.Module | None = None,
    *,
    teachers: Sequence[nn.Module] = (),
    trained: bool = True,
    pictures: StoragePath | None = None,
    left_out: dict[str, str] | None = None,
) -> dict[str, float]:
    """Scores of any encoder of images (N, 3, S, S) on all splits, as those of a finished configuration.

    Args:
        encoder: gives (N, D); it is left in eval mode on `device`.
        dataset: where it is scored.
        settings: of the scores (`eval`), and of the probe's seed (`train.seed`).
        device: where it runs.
        head: its SSL head, if it has one; k-NN looks at it where the protocol does.
        teachers: that it learned from, for tasks that look at them.
        trained: whether tasks may train a copy of it; not so of raw pixels and of teachers.
        pictures: folder for what tasks draw; None: it is not kept.
        left_out: receives why tasks failed that did.

    Returns: `val_knn`, `test_knn`, `val_probe`, `test_probe`, with few labels those of `few_label_scores`; without
        labels `test_instance`; and what `eval.tasks` add.
    """
    encoder.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if _has_labels(dataset):
        found = _score(encoder, dataset, settings, device, head, few=True)[0]
    else:
        found = {"test_instance": instance_score(encoder, dataset, dataset.test, device)}
    if settings.eval.tasks:
        tried = _run_tasks(Subject(encoder, dataset, settings, device, teachers), pictures, trained=trained)
        found |= tried.scores
        if left_out is not None:
            left_out |= tried.left_out
    return found


def _run_tasks(subject: Subject, pictures: StoragePath | None, ending: str = "", *, trained: bool = True) -> Findings:
    """Run the tasks, and keep what they draw.

    Args:
        subject: the network.
        pictures: folder for what they draw, if it is kept.
        ending: of the pictures' names.
        trained: whether tasks may train a copy of the network.
    """
    found = run_tasks(subject, trained=trained)
    if pictures is not None and found.pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, picture in found.pictures.items():
            (pictures / f"{name}{ending}.png").write_bytes(picture)
    return found


def teachers_of(
    config: Config, dataset: Dataset, device: torch.device, teachers: Teachers, store: str | None
) -> list[nn.Module]:
    """The frozen teachers of a run, where a task looks at them.

    Args:
        config: of the run.
        dataset: its images.
        device: of the teachers.
        teachers: their keys.
        store: the address of the store that has them.
    """
    if store is None or not any(TASKS[parse(text)[0]].needs == "teachers" for text in config.eval.tasks):
        return []
    shown = normalization(dataset.name, dataset.image_size)
    kept = open_store(to_path(store))
    return [TeacherFeatures(artifacts.load(kept, key, shown, device)) for key in teachers]


def _has_labels(dataset: Dataset) -> bool:
    return all(split.labels is not None for split in (dataset.bank, dataset.val, dataset.test))


def _score(
    encoder: nn.Module,
    dataset: Dataset,
    config: Config,
    device: torch.device,
    head: nn.Module | None,
    *,
    few: bool,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of one encoder, its probe's logits (M, classes) on the test split, and the labels (M,) of the images used.

    `few`: whether scores with few labels are among them. An image that stands in for a broken one has its own label.
    On a GPU features stay there while they are compared and while the probe learns, if there is room.
    """
    if has_room(encoder, dataset, device):
        try:
            return _score_by(encoder, dataset, config, device, head, few=few, keep=True)
        except Exception as error:
            if not out_of_memory(error):
                raise
            release(error, device)
    return _score_by(encoder, dataset, config, device, head, few=few, keep=False)


def _score_by(
    encoder: nn.Module,
    dataset: Dataset,
    config: Config,
    device: torch.device,
    head: nn.Module | None,
    *,
    few: bool,
    keep: bool,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of one encoder as by `_score`; `keep`: whether features stay on the device."""
    train, train_labels = embed_split(encoder, dataset, dataset.bank, device, keep=keep)
    val, val_labels = embed_split(encoder, dataset, dataset.val, device, keep=keep)
    test, test_labels = embed_split(encoder, dataset, dataset.test, device, keep=keep)
    protocol = knn_protocol(config.eval)
    near, *queries = train, val, test
    if protocol.on_head and head is not None:
        head.to(device)
        near, *queries = (embed(head, rows.split(BATCH), device, keep=keep) for rows in (train, val, test))
    scores: dict[str, float] = {}
    for metric, rows, labels in zip(("val_knn", "test_knn"), queries, (val_labels, test_labels), strict=True):
        scores |= knn_scores(metric, protocol, near, train_labels, rows, labels)
    splits = (train, train_labels), (val, val_labels), (test, test_labels)
    probe = fit_probe(*splits, config, len(dataset.classes))
    assert probe.test is not None
    assert probe.test_logits is not None
    scores |= {"val_probe": probe.val, "test_probe": probe.test}
    if isinstance(config.eval.probe_lr, tuple) and probe.lr is not None:
        scores["probe_lr"] = probe.lr  # the one that validation chose
    counts = counts_of(config.eval, few=dataset.labelled is not None) if few else ()
    if counts:
        # Ten draws of a few rows each: nothing that a GPU would speed up.
        known, asked = (train.cpu(), train_labels.cpu()), (test.cpu(), test_labels.cpu())
        scores |= few_label_scores(known, asked, counts, ks=config.eval.ks, seed=config.data.split_seed)
        scores |= named("test_knn_all_labels", knn_hits(known, asked, config.eval.ks)[None])
        scores |= named("test_probe_all_labels", torch.eq(probe.test_logits.argmax(1), test_labels)[None])
    return scores, probe.test_logits.cpu(), test_labels.cpu()


def _held_out_error(
    method: methods.Method,
    config: Config,
    dataset: Dataset,
    device: torch.device,
    teachers: Teachers,
    store: str,
) -> float:
    """Error of the method's prediction of its teachers on the test split."""
    output = config.method.teacher_output()
    assert output is not None
    shown = normalization(dataset.name, dataset.image_size)
    kept = open_store(to_path(store))
    found = (artifacts.load(kept, key, shown, device) for key in teachers)
    targets = [held_out_outputs(teacher, output, dataset, dataset.test, device) for teacher in found]
    method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    errors, _ = embed_split(HeldOutDistance(method, targets), dataset, dataset.test, device)
    return errors.double().mean().item()

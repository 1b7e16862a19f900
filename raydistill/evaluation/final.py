"""The score of a finished configuration: k-NN and linear probe, the test split included, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raydistill import methods
from raydistill.artifacts.teachers import given_from
from raydistill.config import Config
from raydistill.data.sources import Dataset, OpenedDatasets, load_dataset
from raydistill.evaluation.knn import knn_accuracy
from raydistill.evaluation.logistic import logistic_probe
from raydistill.evaluation.online import embed_split, instance_score
from raydistill.evaluation.probe import linear_probe
from raydistill.storage import to_path
from raydistill.training.checkpoint_files import CheckpointError
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import scored_encoders


def score_all(runs: Sequence[tuple[Config, str]], *, threads: int, gpu: bool = False) -> list[dict[str, float]]:
    """Score several finished configurations, one after the other, on images that are opened and decoded once.

    Args:
        runs: configuration and directory of the checkpoints of each.
        threads: of torch.
        gpu: whether to use one.

    Returns: the scores of each, as by `score`.

    Raises:
        CheckpointError: one has no whole checkpoint.
    """
    datasets = OpenedDatasets()
    return [score(config, place, threads=threads, gpu=gpu, dataset=datasets(config.data)) for config, place in runs]


def score(
    config: Config, directory: str, *, threads: int, gpu: bool = False, dataset: Dataset | None = None
) -> dict[str, float]:
    """Score the student in the newest checkpoint; with `eval.encoders: all` every encoder.

    Accuracy averaged over `eval.ks` by k-NN against the training split (DoGo's protocol), and the linear probe that
    `eval.probe` names, trained on it and chosen on validation. Where there are several encoders also
    `test_probe_ensemble`, of the mean of their probes' logits. Where a split has no labels, `test_instance`: how often
    a crop of a test image finds the other crop of it.

    Args:
        config: a resolved configuration.
        directory: of the checkpoints.
        threads: of torch.
        gpu: whether to use one.
        dataset: that of `config.data`, if it is open.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    torch.set_num_threads(threads)
    state = latest_checkpoint(to_path(directory))
    if state is None:
        raise CheckpointError(f"{directory}: no checkpoint")
    dataset = load_dataset(config.data) if dataset is None else dataset
    labelled = all(split.labels is not None for split in (dataset.train, dataset.val, dataset.test))
    method = methods.build(config.method, given_from(state), seed=0)
    method.load_state_dict(state["method"])
    device = torch.device("cuda" if gpu else "cpu")
    scores: dict[str, float] = {}
    logits: list[Tensor] = []
    labels = torch.empty(0)
    for name, encoder in scored_encoders(method, config.eval.encoders).items():
        encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if labelled:
            found, test_logits, labels = _score(encoder, dataset, config, device)
            logits.append(test_logits)
        else:
            found = {"test_instance": instance_score(encoder, dataset, dataset.test, device)}
        scores |= {metric + ("" if name == "student" else f"_{name}"): value for metric, value in found.items()}
    if len(logits) > 1:
        mean = torch.stack(logits).mean(0)
        scores["test_probe_ensemble"] = torch.eq(mean.argmax(1), labels).double().mean().item()
    return scores


def score_encoder(
    encoder: torch.nn.Module, dataset: Dataset, settings: Config, device: torch.device
) -> dict[str, float]:
    """Scores of any encoder of images (N, 3, S, S) on all splits, as those of a finished configuration.

    Args:
        encoder: gives (N, D); it is left in eval mode on `device`.
        dataset: where it is scored.
        settings: of the scores (`eval`), and of the probe's seed (`train.seed`).
        device: where it runs.

    Returns: `val_knn`, `test_knn`, `val_probe`, `test_probe`; without labels `test_instance`.
    """
    encoder.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if all(split.labels is not None for split in (dataset.train, dataset.val, dataset.test)):
        return _score(encoder, dataset, settings, device)[0]
    return {"test_instance": instance_score(encoder, dataset, dataset.test, device)}


def _score(
    encoder: torch.nn.Module, dataset: Dataset, config: Config, device: torch.device
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of one encoder, its probe's logits (M, classes) on the test split, and the labels (M,) of the images used.

    Those of an image that stands in for a broken one are its own.
    """
    train, train_labels = embed_split(encoder, dataset, dataset.train, device)
    val, val_labels = embed_split(encoder, dataset, dataset.val, device)
    test, test_labels = embed_split(encoder, dataset, dataset.test, device)
    ks = config.eval.ks
    nearest = {
        "val_knn": knn_accuracy(train, train_labels, val, val_labels, ks=ks),
        "test_knn": knn_accuracy(train, train_labels, test, test_labels, ks=ks),
    }
    splits = (train, train_labels, val, val_labels)
    tested: dict[str, Any] = {"test": test, "test_labels": test_labels, "classes": len(dataset.classes)}
    if config.eval.probe == "logistic":
        probe = logistic_probe(*splits, **tested)
    else:
        own = config.eval.probe_epochs if config.eval.probe == "dogo" else None
        probe = linear_probe(*splits, **tested, preset=config.eval.probe, epochs=own, seed=config.train.seed)
    scores = {name: sum(values.values()) / len(values) for name, values in nearest.items()}
    assert probe.test is not None
    assert probe.test_logits is not None
    return scores | {"val_probe": probe.val, "test_probe": probe.test}, probe.test_logits, test_labels

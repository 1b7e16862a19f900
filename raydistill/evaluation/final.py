"""The score of a finished configuration: k-NN and linear probe, the test split included, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from raydistill import config as configuration
from raydistill import methods
from raydistill.data.sources import Dataset, load_dataset
from raydistill.evaluation.knn import knn_accuracy
from raydistill.evaluation.online import embed_split
from raydistill.evaluation.probe import linear_probe
from raydistill.training.checkpoints import CheckpointError, latest_checkpoint


def score(config: dict[str, Any], directory: str, *, threads: int, gpu: bool = False) -> dict[str, float]:
    """Scores of the student in the newest checkpoint of `directory`.

    DoGo's presets: accuracy averaged over `eval.ks` by k-NN against the training split, and a linear probe
    trained on it, chosen on validation. Without labels there is nothing to score: empty.

    Raises: CheckpointError when there is no whole checkpoint.
    """
    torch.set_num_threads(threads)
    settings = configuration.load(config)
    state = latest_checkpoint(Path(directory))
    if state is None:
        raise CheckpointError(f"{directory}: no checkpoint")
    dataset = load_dataset(settings.data)
    if any(split.labels is None for split in (dataset.train, dataset.val, dataset.test)):
        return {}
    method = methods.build(settings.method, image_size=dataset.image_size, seed=0)
    method.load_state_dict(state["method"])
    device = torch.device("cuda" if gpu else "cpu")
    encoder = method.encoders()["student"].to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _score(encoder, dataset, settings, device)


def _score(
    encoder: torch.nn.Module, dataset: Dataset, settings: configuration.Config, device: torch.device
) -> dict[str, float]:
    train, train_labels = embed_split(encoder, dataset, dataset.train, device)
    val, val_labels = embed_split(encoder, dataset, dataset.val, device)
    test, test_labels = embed_split(encoder, dataset, dataset.test, device)
    ks = settings.eval.ks
    nearest = {
        "val_knn": knn_accuracy(train, train_labels, val, val_labels, ks=ks),
        "test_knn": knn_accuracy(train, train_labels, test, test_labels, ks=ks),
    }
    probe = linear_probe(
        train, train_labels, val, val_labels, test=test, test_labels=test_labels,
        classes=len(dataset.classes), epochs=settings.eval.probe_epochs, seed=settings.train.seed,
    )  # fmt: skip
    scores = {name: sum(values.values()) / len(values) for name, values in nearest.items()}
    scores |= {"val_probe": probe.val}
    return scores | ({"test_probe": probe.test} if probe.test is not None else {})

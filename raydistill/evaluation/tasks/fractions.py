"""Shares of the labels: a linear probe on frozen features that learns from some of them (SEED, figure 3)."""

from __future__ import annotations

from raydistill.evaluation.labelled import check_labels, shares
from raydistill.evaluation.probes import embed_splits, fit_probe
from raydistill.evaluation.tasks.base import Findings, Subject


def score(subject: Subject) -> Findings:
    """Score the probe that `eval.probe` names, trained on each of `eval.label_percents` of the training labels.

    The share is of each class, at least one image, and smaller shares lie within larger ones. The draws depend on
    `data.split_seed` alone. All validation labels choose the epoch or the regularisation.

    Returns: `test_probe_10_percent` for 10 %.

    Raises:
        DataError: images without labels.
    """
    dataset, config = subject.dataset, subject.config
    check_labels(dataset)
    (train, labels), val, test = embed_splits(subject.encoder, dataset, subject.device)
    scores: dict[str, float] = {}
    assert dataset.bank.labels is not None
    for percent, rows in shares(dataset.bank.labels, config.eval.label_percents, config.data.split_seed).items():
        rows = rows.to(labels.device)
        found = fit_probe((train[rows], labels[rows]), val, test, config, len(dataset.classes))
        assert found.test is not None
        scores[f"test_probe_{percent:g}_percent"] = found.test
    return Findings(scores)

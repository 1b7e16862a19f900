"""Whole network trained on shares of the labels (DoGo, table 2; SSSD, table 4)."""

from __future__ import annotations

from raydistill.evaluation.labelled import check_labels, shares
from raydistill.evaluation.tasks.base import Findings, Subject
from raydistill.evaluation.tasks.tuning import tune


def score(subject: Subject) -> Findings:
    """Train copies of the network by the recipe `eval.tune`, each on one of `eval.label_percents` of the labels.

    The shares are those of the task `fractions`. All validation labels choose the epoch.

    Returns: `test_tuned_10_percent` for 10 %.

    Raises:
        DataError: images without labels.
        TaskError: too few images, or a loss that is not finite.
    """
    dataset, config = subject.dataset, subject.config
    check_labels(dataset)
    assert dataset.bank.labels is not None
    scores: dict[str, float] = {}
    for percent, rows in shares(dataset.bank.labels, config.eval.label_percents, config.data.split_seed).items():
        scores[f"test_tuned_{percent:g}_percent"] = tune(subject.encoder, dataset, subject, rows=rows).test
    return Findings(scores)

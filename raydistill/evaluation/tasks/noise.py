"""Label noise: a linear probe that learns from labels of which a share is drawn anew (DoGo, figure 3)."""

from __future__ import annotations

from raydistill.evaluation.labelled import check_labels, redrawn
from raydistill.evaluation.probes import embed_splits, fit_probe
from raydistill.evaluation.tasks.base import Findings, Subject


def score(subject: Subject) -> Findings:
    """Score the probe on clean test labels, for each of `eval.noise_rates`.

    Each training and each validation label is replaced, with this probability, by a class drawn uniformly, which may be
    the same one. The draws depend on `data.split_seed` alone. The paper does not say whether its validation labels are
    clean. Here they are as noisy as the training labels, so that no clean label chooses the epoch.

    Returns: `test_probe_noise_20` for a rate of 0.2.

    Raises:
        DataError: images without labels.
    """
    dataset, config = subject.dataset, subject.config
    check_labels(dataset)
    (train, labels), (val, val_labels), test = embed_splits(subject.encoder, dataset, subject.device)
    classes, seed = len(dataset.classes), config.data.split_seed
    scores: dict[str, float] = {}
    for rate in config.eval.noise_rates:
        noisy = redrawn(labels, rate, classes, (seed, 0))
        chosen = redrawn(val_labels, rate, classes, (seed, 1))
        found = fit_probe((train, noisy), (val, chosen), test, config, classes)
        assert found.test is not None
        scores[f"test_probe_noise_{100 * rate:g}"] = found.test
    return Findings(scores)

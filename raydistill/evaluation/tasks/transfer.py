"""Transfer: k-NN and linear probe on the frozen features of other images (SimReg, table 5; DoGo, table 3)."""

from __future__ import annotations

from raydistill.evaluation.final import score_encoder
from raydistill.evaluation.labelled import check_labels
from raydistill.evaluation.tasks.base import Findings, Subject
from raydistill.evaluation.tasks.names import slug


def score(subject: Subject) -> Findings:
    """Score k-NN and the probe on the task's own images, by the protocols of the run.

    Returns: `test_knn_on_NAME` and `test_probe_on_NAME`, and what else the protocol of k-NN reports, NAME being that of
        the images: see `slug`.

    Raises:
        DataError: images that cannot be opened, or without labels.
    """
    dataset = subject.images()
    check_labels(dataset)
    config = subject.config
    own = config.model_copy(update={"eval": config.eval.model_copy(update={"labels_per_class": (), "tasks": ()})})
    found = score_encoder(subject.encoder, dataset, own, subject.device)
    name = slug(subject.source or config.data.source)
    return Findings({f"{metric}_on_{name}": value for metric, value in found.items() if metric.startswith("test_")})

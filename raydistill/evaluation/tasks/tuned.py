"""Whole network trained on all labels of the run's images or of others (SDSSL, table 5)."""

from __future__ import annotations

from raydistill.evaluation.tasks.base import Findings, Subject
from raydistill.evaluation.tasks.names import slug
from raydistill.evaluation.tasks.tuning import tune


def score(subject: Subject) -> Findings:
    """Train a copy of the network with a linear layer on top, by the recipe `eval.tune`, and score it on test.

    Returns: `test_tuned`, or `test_tuned_on_NAME` on images of the task's own: see `slug`.

    Raises:
        DataError: images that cannot be opened, or without labels.
        TaskError: too few images, or a loss that is not finite.
    """
    found = tune(subject.encoder, subject.images(), subject)
    return Findings({f"test_tuned_on_{slug(subject.source)}" if subject.source else "test_tuned": found.test})

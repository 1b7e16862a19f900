"""Whole network trained on labels and on a teacher that has learned them (SEED, appendix, on CIFAR-100)."""

from __future__ import annotations

from raydistill.evaluation.labelled import check_labels
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError
from raydistill.evaluation.tasks.tuning import tune
from raydistill.evaluation.teacher_features import trainable


def score(subject: Subject) -> Findings:
    """Train the first teacher on the labels, then the network on the labels and on that teacher's logits.

    Both are copies with a linear layer on top, and learn all labels by the recipe `eval.tune`. `tuning.kd_loss` is the
    student's loss.

    Returns: `test_tuned_kd`, and `test_tuned_teacher` of the teacher itself.

    Raises:
        DataError: images without labels.
        TaskError: no teacher, too few images, or a loss that is not finite.
    """
    if not subject.teachers:
        raise TaskError("tuned_kd needs a teacher, and this network has learned from none")
    check_labels(subject.dataset)
    teacher = tune(trainable(subject.teachers[0]), subject.dataset, subject)
    student = tune(subject.encoder, subject.dataset, subject, teacher=teacher.network)
    return Findings({"test_tuned_kd": student.test, "test_tuned_teacher": teacher.test})

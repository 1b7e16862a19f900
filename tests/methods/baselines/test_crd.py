"""CRD: the whole loss against a reference, and what the queues take."""

import numpy as np
import pytest
import torch
from helpers.embeddings import PROGRESS, method_and_batch, numbers, unit


def reference(anchors, positives, queue, tau, images):
    """Equations 18 and 19, the K negatives standing for K times their expectation, K/M in the critic."""
    k = len(queue)

    def critic(cosine):
        return np.exp(cosine / tau) / (np.exp(cosine / tau) + k / images)

    own = np.log(critic((anchors * positives).sum(1)))
    others = np.log(1 - critic(anchors @ queue.T)).sum(1)
    return -(own + others).mean()


def test_the_loss_is_the_sum_of_both_networks_halves():
    method, batch = method_and_batch("crd")
    (view,) = method.views
    student = unit(numbers(method.student_map(method.backbone(batch.views[view]))))
    teacher = unit(numbers(method.teacher_map(batch.teachers[0](view, method.options.teacher))))
    terms = method.loss(batch, PROGRESS)
    tau, images = method.options.tau, method.images
    halves = {
        "student": reference(student, teacher, numbers(method.teacher_queue.rows), tau, images),
        "teacher": reference(teacher, student, numbers(method.student_queue.rows), tau, images),
    }
    for name, expected in halves.items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(sum(halves.values()), rel=1e-5)


def test_each_queue_takes_its_own_networks_rows_after_the_step_only():
    method, batch = method_and_batch("crd")
    before = [queue.rows.clone() for queue in (method.student_queue, method.teacher_queue)]
    method.loss(batch, PROGRESS)
    student, teacher = method._rows
    assert torch.equal(method.student_queue.rows, before[0])
    assert torch.equal(method.teacher_queue.rows, before[1])
    method.after_step(PROGRESS)
    torch.testing.assert_close(method.student_queue.rows[-len(student) :], student)
    torch.testing.assert_close(method.teacher_queue.rows[-len(teacher) :], teacher)

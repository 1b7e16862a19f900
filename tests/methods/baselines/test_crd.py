"""CRD: both halves of the loss, what the queues take, and which half trains what."""

import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import PROGRESS, assert_a_queue_longer_than_the_data_is_refused, features, in_float64
from helpers.rows import make


def mapped(method, batch):
    """Embeddings of student and teacher."""
    (view,) = method.views
    student = references.head([method.student_map], features(method.backbone, batch, view))
    return student, references.head([method.teacher_map], batch.teachers[0](view, "features").numpy())


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("crd", tau=0.3)
    student, teacher = mapped(method, batch)
    queues = method.teacher_queue.rows.numpy(), method.student_queue.rows.numpy()
    halves = {
        "student": references.binary_contrastive(student, teacher, queues[0], 0.3, 64),
        "teacher": references.binary_contrastive(teacher, student, queues[1], 0.3, 64),
    }
    terms = method.loss(batch, PROGRESS)
    assert {name: terms[name].item() for name in halves} == pytest.approx(halves, rel=1e-10)
    assert terms["loss"].item() == pytest.approx(sum(halves.values()), rel=1e-10)


def test_each_queue_takes_its_networks_embeddings_after_the_step_only():
    method, batch = in_float64("crd")
    queues = method.student_queue, method.teacher_queue
    before = [queue.rows.clone() for queue in queues]
    new = [F.normalize(torch.from_numpy(rows), dim=1) for rows in mapped(method, batch)]
    method.loss(batch, PROGRESS)
    assert all(torch.equal(queue.rows, old) for queue, old in zip(queues, before, strict=True))
    method.after_step(PROGRESS)
    for queue, old, rows in zip(queues, before, new, strict=True):
        assert torch.equal(queue.rows[:-6], old[6:])
        torch.testing.assert_close(queue.rows[-6:], rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("half", "trained", "other"), [("student", "student_map", "teacher_map"), ("teacher", "teacher_map", "student_map")]
)
def test_each_half_trains_its_own_map(half, trained, other):
    method, batch = in_float64("crd")
    method.loss(batch, PROGRESS)[half].backward()
    assert getattr(method, trained).weight.grad.any()
    assert getattr(method, other).weight.grad is None
    assert any(p.grad is not None for p in method.backbone.parameters()) == (half == "student")


def test_maps_lead_to_one_width():
    method = make("crd", embedding_dim=5)
    assert method.student_map.out_features == method.teacher_map.out_features == 5
    assert method.student_queue.rows.shape == method.teacher_queue.rows.shape == (16, 5)


@pytest.mark.fault(17)
def test_a_queue_longer_than_the_data_is_refused():
    assert_a_queue_longer_than_the_data_is_refused("crd", "negatives")

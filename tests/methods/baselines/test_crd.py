"""CRD: both halves of the loss, what the queues take, and which half trains what."""

import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import PROGRESS, assert_a_queue_longer_than_the_data_is_refused, features, in_float64
from helpers.rows import batch_for, make, options

from raydistill import config


def mapped(method, batch):
    """Embeddings of student and teacher."""
    (view,) = method.views
    student = references.head([method.student_map], features(method.backbone, batch, view))
    return student, references.head([method.teacher_map], batch.teachers[0](view, "features").numpy())


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("crd", tau=0.3, normalizer="none")
    student, teacher = mapped(method, batch)
    queues = method.teacher_queue.rows.numpy(), method.student_queue.rows.numpy()
    halves = {
        "student": references.binary_contrastive(student, teacher, queues[0], 0.3, 64),
        "teacher": references.binary_contrastive(teacher, student, queues[1], 0.3, 64),
    }
    terms = method.loss(batch, PROGRESS)
    assert {name: terms[name].item() for name in halves} == pytest.approx(halves, rel=1e-10)
    assert terms["loss"].item() == pytest.approx(sum(halves.values()), rel=1e-10)


@pytest.mark.fault(18)
def test_the_first_batch_decides_on_the_normalizer_of_each_half():
    method, batch = in_float64("crd", tau=0.3)
    student, teacher = mapped(method, batch)
    queues = method.teacher_queue.rows.numpy(), method.student_queue.rows.numpy()
    expected = {
        "student": references.crd_released(student, teacher, queues[0], 0.3, 64),
        "teacher": references.crd_released(teacher, student, queues[1], 0.3, 64),
    }
    terms = method.loss(batch, PROGRESS)
    method.after_step(PROGRESS)
    for name, (loss, z) in expected.items():
        assert terms[name].item() == pytest.approx(loss, rel=1e-10)
        assert getattr(method, f"{name}_critic").log_z.exp().item() == pytest.approx(z, rel=1e-10)


def test_later_batches_keep_the_normalizer_and_so_does_a_checkpoint():
    method = make("crd")
    for seed in range(2):
        method.loss(batch_for(method, seed=seed), PROGRESS)
        method.after_step(PROGRESS)
        if seed == 0:
            first = method.student_critic.log_z.clone(), method.teacher_critic.log_z.clone()
    assert (method.student_critic.log_z, method.teacher_critic.log_z) == first
    other = make("crd", seed=1)
    other.load_state_dict(method.state_dict())
    assert (other.student_critic.log_z, other.teacher_critic.log_z) == first
    losses = [one.loss(batch_for(one, seed=7), PROGRESS)["loss"] for one in (method, other)]
    assert torch.equal(*losses)


def test_without_a_normalizer_the_state_is_that_of_version_0_1():
    assert not [name for name in make("crd", normalizer="none").state_dict() if "critic" in name]
    alternative = make("seed", loss="binary_contrastive").alternative
    assert not alternative.state_dict()
    assert options("crd", normalizer="none") == config.load({"method": {"name": "crd"}}).method.model_copy(
        update={"backbone": "resnet10_w4", "embedding_dim": 8, "negatives": 16}
    )


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

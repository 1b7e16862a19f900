"""CompRess with two queues: the whole loss, and what the student's queue takes."""

import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import PROGRESS, features, in_float64, states
from helpers.rows import batch_for, make


@pytest.mark.fault(18)
@pytest.mark.parametrize("head", ["none", "linear"])
def test_the_whole_loss(head):
    """Each network has its own queue."""
    method, batch = in_float64("compress_2q", head=head, tau=0.1)
    (view,) = method.views
    layers = [method.student_head] if head == "linear" else []
    student = references.head(layers, features(method.backbone, batch, view))
    own, theirs = method.student_queue.rows.numpy(), method.teacher_queue.rows.numpy()
    expected = references.compress(student, batch.teachers[0](view, "features").numpy(), own, theirs, 0.1)
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_the_students_queue_takes_the_momentum_copy():
    method = make("compress_2q", head="linear")
    batch = batch_for(method)
    method.loss(batch, PROGRESS)
    kept = method._rows[1]
    method.after_step(PROGRESS)
    assert torch.equal(method.student_queue.rows[-6:], kept)
    assert not any(p.requires_grad for p in method.momentum_backbone.parameters())


def test_the_queues_hold_the_same_images_in_the_same_order():
    method, batch = in_float64("compress_2q")
    (view,) = method.views
    student = torch.from_numpy(features(method.momentum_backbone, batch, view))
    before = [queue.rows.clone() for queue in (method.student_queue, method.teacher_queue)]
    method.loss(batch, PROGRESS)
    assert torch.equal(method.student_queue.rows, before[0])
    method.after_step(PROGRESS)
    teacher = batch.teachers[0](view, "features")
    for queue, old, new in zip((method.student_queue, method.teacher_queue), before, (student, teacher), strict=True):
        assert torch.equal(queue.rows[:-6], old[6:])
        torch.testing.assert_close(queue.rows[-6:], F.normalize(new, dim=1), rtol=0, atol=1e-6)


def test_the_momentum_copy_moves_after_the_step_only():
    method, batch = in_float64("compress_2q", head="linear", student_momentum=0.75)
    momentum, trained = (method.momentum_backbone, method.momentum_head), (method.backbone, method.student_head)
    before = states(*momentum)
    method.loss(batch, PROGRESS)
    assert all(map(torch.equal, states(*momentum), before))
    method.after_step(PROGRESS)
    for now, old, source in zip(states(*momentum), before, states(*trained), strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * source)


def test_without_momentum_the_queue_takes_the_student_itself():
    method, batch = in_float64("compress_2q", student_momentum=None)
    student = torch.from_numpy(features(method.backbone, batch, method.views[0]))
    assert not any("momentum" in name for name in method.state_dict())
    method.loss(batch, PROGRESS)
    method.after_step(PROGRESS)
    torch.testing.assert_close(method.student_queue.rows[-6:], F.normalize(student, dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("head", "width"), [("none", 32), ("linear", 12)])
def test_the_students_queue_is_as_wide_as_the_student(head, width):
    method = make("compress_2q", head=head)
    assert method.student_queue.rows.shape == (16, width)
    assert method.teacher_queue.rows.shape == (16, 12)
    assert method.student_queue.rows.abs().max() <= (3 / width) ** 0.5

"""CompRess with one queue: the whole loss, and what the teacher's queue takes."""

import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import PROGRESS, assert_a_queue_longer_than_the_data_is_refused, features, in_float64
from helpers.rows import batch_for, make

from raydistill.config import ConfigError


@pytest.mark.fault(18)
@pytest.mark.parametrize("head", ["linear", "mlp4"])
@pytest.mark.parametrize("output", ["features", "head"])
def test_the_whole_loss(head, output):
    method, batch = in_float64("compress_1q", head=head, teacher=output, tau=0.1)
    (view,) = method.views
    layers = [method.student_head] if head == "linear" else method.student_head
    student = references.head(layers, features(method.backbone, batch, view))
    queue = method.teacher_queue.rows.numpy()
    expected = references.compress(student, batch.teachers[0](view, output).numpy(), queue, queue, 0.1)
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_the_queue_takes_the_teachers_embeddings_after_the_step_only():
    method = make("compress_1q")
    batch, before = batch_for(method), method.teacher_queue.rows.clone()
    method.loss(batch, PROGRESS)
    assert torch.equal(method.teacher_queue.rows, before)
    method.after_step(PROGRESS)
    new = F.normalize(batch.teachers[0](method.views[0], "features"), dim=1)
    assert torch.equal(method.teacher_queue.rows, torch.cat((before[6:], new)))


def test_there_is_no_other_queue_and_no_momentum_network():
    state = make("compress_1q").state_dict()
    assert [name for name in state if "queue" in name] == ["teacher_queue.rows"]
    assert not any("momentum" in name for name in state)


def test_queues_start_uniform_within_their_bound():
    rows = make("compress_1q").teacher_queue.rows
    bound = (3 / rows.shape[1]) ** 0.5
    assert rows.abs().max() <= bound
    assert rows.abs().max() > 0.9 * bound


def test_one_queue_needs_a_head():
    with pytest.raises(ConfigError, match="linear or mlp4"):
        make("compress_1q", head="none")


@pytest.mark.fault(17)
def test_a_queue_longer_than_the_data_is_refused():
    assert_a_queue_longer_than_the_data_is_refused("compress_1q", "queue_size")

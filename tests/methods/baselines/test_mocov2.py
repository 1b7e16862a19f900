"""MoCo v2: the whole loss, its queue and its momentum network."""

import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import (
    PROGRESS,
    assert_a_queue_longer_than_the_data_is_refused,
    features,
    in_float64,
    states,
    widths,
)
from helpers.rows import make

from raydistill.methods import StepInfo


def keys_of(method, batch):
    return references.head(method.key_projector, features(method.key_backbone, batch, method.views[1]))


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("mocov2", tau=0.3)
    queries = references.head(method.projector, features(method.backbone, batch, method.views[0]))
    expected = references.moco(queries, keys_of(method, batch), method.queue.rows.numpy(), 0.3)
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_the_queue_takes_the_keys_after_the_step_only():
    method, batch = in_float64("mocov2")
    before, keys = method.queue.rows.clone(), torch.from_numpy(keys_of(method, batch))
    method.loss(batch, PROGRESS)
    assert torch.equal(method.queue.rows, before)
    method.after_step(PROGRESS)
    assert torch.equal(method.queue.rows[:-6], before[6:])
    torch.testing.assert_close(method.queue.rows[-6:], F.normalize(keys, dim=1), rtol=0, atol=1e-6)


def test_keys_enter_the_queue_once():
    method, batch = in_float64("mocov2")
    method.loss(batch, PROGRESS)
    method.after_step(PROGRESS)
    before = method.queue.rows.clone()
    method.after_step(PROGRESS)
    assert torch.equal(method.queue.rows, before)


@pytest.mark.parametrize("step", [0, 10])
def test_the_momentum_network_moves_after_the_step_only_at_a_constant_rate(step):
    method, batch = in_float64("mocov2", momentum=0.75)
    momentum, trained = (method.key_backbone, method.key_projector), (method.backbone, method.projector)
    before = states(*momentum)
    method.loss(batch, StepInfo(step, 10))["loss"].backward()
    assert all(map(torch.equal, states(*momentum), before))
    assert all(p.grad is None for module in momentum for p in module.parameters())
    method.after_step(StepInfo(step, 10))
    for now, old, source in zip(states(*momentum), before, states(*trained), strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * source)


def test_the_student_is_the_query_network():
    method = make("mocov2", hidden_dim=None)
    assert method.encoders() == {"student": method.backbone}
    assert method.head() is method.projector
    assert widths(method.projector) == [32, 32, 8]  # hidden as wide as the backbone


@pytest.mark.fault(17)
def test_a_queue_longer_than_the_data_is_refused():
    assert_a_queue_longer_than_the_data_is_refused("mocov2", "queue_size")

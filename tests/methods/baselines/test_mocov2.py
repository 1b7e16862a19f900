"""MoCo v2: the whole loss against a reference, and what the queue takes when."""

import numpy as np
import pytest
import torch
from helpers.embeddings import PROGRESS, log_softmax, loss_of, method_and_batch, numbers, parameters, unit


def test_the_loss_tells_the_own_key_from_the_queue():
    method, batch = method_and_batch("mocov2", tau=0.3)
    first, second = (batch.views[view] for view in method.views)
    q = unit(numbers(method.projector(method.backbone(first))))
    k = unit(numbers(method.key_projector(method.key_backbone(second))))
    queue = numbers(method.queue.rows)
    logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], axis=1) / 0.3
    assert loss_of(method, batch) == pytest.approx(-log_softmax(logits)[:, 0].mean(), rel=1e-5)


def test_the_queue_takes_the_keys_after_the_step_only():
    method, batch = method_and_batch("mocov2")
    before = method.queue.rows.clone()
    second = batch.views[method.views[1]]
    keys = torch.nn.functional.normalize(method.key_projector(method.key_backbone(second)).detach(), dim=1)
    method.loss(batch, PROGRESS)
    assert torch.equal(method.queue.rows, before)
    method.after_step(PROGRESS)
    torch.testing.assert_close(method.queue.rows[-len(keys) :], keys)
    assert torch.equal(method.queue.rows[: -len(keys)], before[len(keys) :])


def test_the_momentum_is_constant():
    method, _ = method_and_batch("mocov2", momentum=0.75)
    with torch.no_grad():
        for value in method.backbone.parameters():
            value.add_(1.0)
    expected = 0.75 * parameters(method.key_backbone) + 0.25 * parameters(method.backbone)
    method.after_step(PROGRESS)
    torch.testing.assert_close(parameters(method.key_backbone), expected)

"""BYOL: the whole loss against a reference, the momentum network, and which network is scored."""

import pytest
import torch
from helpers.embeddings import PROGRESS, loss_of, method_and_batch, numbers, parameters, unit

from raydistill.methods import StepInfo


def test_the_loss_is_the_printed_one():
    method, batch = method_and_batch("byol")
    q = [unit(numbers(method.predictor(method.projector(method.backbone(batch.views[v]))))) for v in method.views]
    z = [unit(numbers(method.target_projector(method.target_backbone(batch.views[v])))) for v in method.views]
    expected = sum(2 - 2 * (a * b).sum(1).mean() for a, b in ((q[0], z[1]), (q[1], z[0])))
    assert loss_of(method, batch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.9), (5, 0.95), (10, 1.0)])
def test_the_momentum_network_follows_after_the_step_and_slower_and_slower(step, momentum):
    method, _ = method_and_batch("byol", momentum=0.9)
    with torch.no_grad():
        for value in method.backbone.parameters():
            value.add_(1.0)
    before = parameters(method.target_backbone)
    method.after_step(StepInfo(step, 10))
    expected = momentum * before + (1 - momentum) * parameters(method.backbone)
    torch.testing.assert_close(parameters(method.target_backbone), expected)


def test_no_gradient_reaches_the_momentum_network():
    method, batch = method_and_batch("byol")
    method.loss(batch, PROGRESS)["loss"].backward()
    assert all(p.grad is None for p in (*method.target_backbone.parameters(), *method.target_projector.parameters()))
    assert any(p.grad is not None for p in method.backbone.parameters())


@pytest.mark.parametrize(("encoder", "name"), [("student", "backbone"), ("ema", "target_backbone")])
def test_the_encoder_is_the_trained_network_or_its_average(encoder, name):
    method, _ = method_and_batch("byol", encoder=encoder)
    assert method.encoders()["student"] is getattr(method, name)
    assert method.head() is getattr(method, name.replace("backbone", "projector"))

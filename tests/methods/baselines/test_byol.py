"""BYOL: the whole loss, the momentum network, and which network is the encoder."""

import pytest
import torch
from helpers import references
from helpers.references import PROGRESS, features, in_float64, states, stepped, widths
from helpers.rows import batch_for, make
from torch import nn

from raydistill.data.views.augment import View
from raydistill.methods import StepInfo


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("byol")
    online, target = [], []
    for view in method.views:
        z = references.head(method.projector, features(method.backbone, batch, view))
        online.append(references.head(method.predictor, z))
        target.append(references.head(method.target_projector, features(method.target_backbone, batch, view)))
    expected = references.normalized_regression(online[0], target[1])
    expected += references.normalized_regression(online[1], target[0])
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_the_momentum_network_moves_after_the_step_only():
    method, batch = in_float64("byol", momentum=0.75)
    target, trained = method.average(), (method.backbone, method.projector)
    before = states(*target)
    method.loss(batch, StepInfo(0, 10))["loss"].backward()
    assert all(map(torch.equal, states(*target), before))
    method.after_step(StepInfo(0, 10))
    for now, old, source in zip(states(*target), before, states(*trained), strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * source)


def test_momentum_rises_to_one_at_the_last_step():
    method, _ = in_float64("byol", momentum=0.5)
    before = states(*method.average())
    method.after_step(StepInfo(5, 10))  # halfway down the cosine
    for now, old, source in zip(
        states(*method.average()), before, states(method.backbone, method.projector), strict=True
    ):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * source)
    before = states(*method.average())
    method.after_step(StepInfo(10, 10))
    assert all(map(torch.equal, states(*method.average()), before))


def test_the_encoder_is_the_trained_network_or_its_average():
    student, average = make("byol"), make("byol", encoder="ema")
    assert student.encoders()["student"] is student.backbone
    assert student.head() is student.projector
    assert average.encoders()["student"] is average.target_backbone
    assert average.head() is average.target_projector
    stepped(average, batch_for(average))
    assert not all(map(torch.equal, states(average.encoders()["student"]), states(average.backbone)))


def test_no_gradient_reaches_the_momentum_network():
    method, batch = in_float64("byol")
    method.loss(batch, PROGRESS)["loss"].backward()
    momentum = [p for module in method.average() for p in module.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in momentum)
    assert all(p.grad is not None for p in method.predictor.parameters())


def test_views_and_heads():
    method = make("byol", projector_layers=2, hidden_dim=16)
    assert method.views == (View("byol1", 0), View("byol2", 1))
    assert widths(method.projector) == [32, 16, 8]
    assert widths(method.predictor) == [8, 16, 8]
    assert isinstance(method.projector[-1], nn.Linear)
    assert isinstance(method.predictor[-1], nn.Linear)

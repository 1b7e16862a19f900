"""SimSiam: the whole loss against a reference, and where no gradient goes."""

import pytest
import torch
from helpers.embeddings import PROGRESS, loss_of, method_and_batch, numbers, unit


def test_the_loss_is_the_negative_cosine_of_predictions_and_projections():
    method, batch = method_and_batch("simsiam")
    z = [method.projector(method.backbone(batch.views[view])) for view in method.views]
    pa, pb, za, zb = (unit(numbers(x)) for x in (*map(method.predictor, z), *z))
    expected = -((pa * zb).sum(1).mean() + (pb * za).sum(1).mean()) / 2
    assert loss_of(method, batch) == pytest.approx(expected, rel=1e-5)


def test_projections_are_targets_without_gradient():
    """With the predictor's output cut off, nothing is left that trains the backbone."""
    method, batch = method_and_batch("simsiam")
    method.predictor.register_forward_hook(lambda module, inputs, output: output.detach().requires_grad_())
    method.loss(batch, PROGRESS)["loss"].backward()
    assert all(p.grad is None for p in method.backbone.parameters())


def test_it_needs_no_negatives():
    method, batch = method_and_batch("simsiam")
    one = torch.stack([torch.as_tensor(loss_of(method, batch))])
    assert -1 <= one.item() <= 1

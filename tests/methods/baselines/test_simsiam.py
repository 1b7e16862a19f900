"""SimSiam: the whole loss, the detached targets, and the depth of its projector."""

import pytest
import torch
from helpers.references import PROGRESS, features, head, in_float64, unit, widths
from helpers.rows import make

from raydistill.methods._peer import Embedding


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("simsiam")
    z_a, z_b = (head(method.projector, features(method.backbone, batch, view)) for view in method.views)
    p_a, p_b = head(method.predictor, z_a), head(method.predictor, z_b)
    cosines = [(unit(p) * unit(z)).sum(1).mean() for p, z in ((p_a, z_b), (p_b, z_a))]
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(-sum(cosines) / 2, rel=1e-10)


def test_no_gradient_goes_through_a_target():
    method = make("simsiam")
    z_a, z_b, p_a, p_b = (torch.randn(5, 8).requires_grad_() for _ in range(4))
    method.objective(Embedding(z_a, p_a), Embedding(z_b, p_b)).backward()
    assert z_a.grad is None
    assert z_b.grad is None
    assert p_a.grad.any()
    assert p_b.grad.any()


def test_the_loss_is_least_where_the_predictions_are_the_targets():
    method = make("simsiam")
    z_a, z_b = torch.randn(5, 8), torch.randn(5, 8)
    best = method.objective(Embedding(z_a, 3 * z_b), Embedding(z_b, z_a / 2)).item()
    assert best == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize(("layers", "expected"), [(2, [32, 8, 8]), (3, [32, 8, 8, 8])])
def test_depth_of_the_projector(layers, expected):
    method = make("simsiam", projector_layers=layers)
    assert widths(method.projector) == expected
    assert widths(method.predictor) == [8, 4, 8]
    assert method.head() is method.projector

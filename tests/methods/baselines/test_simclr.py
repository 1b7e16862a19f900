"""SimCLR: the whole loss against a reference, and its heads."""

import numpy as np
import pytest
from helpers.embeddings import log_softmax, loss_of, method_and_batch, numbers, unit
from torch import nn


def reference(a, b, tau):
    """Cross-entropy of each projection against all others of both views, its image's other view being right."""
    z = unit(np.concatenate([a, b]))
    logits = z @ z.T / tau
    np.fill_diagonal(logits, -np.inf)
    right = np.roll(np.arange(len(z)), len(a))
    return -log_softmax(logits)[np.arange(len(z)), right].mean()


@pytest.mark.parametrize("head", ["dogo", "sdssl"])
def test_the_loss_is_nt_xent_of_the_projections(head):
    method, batch = method_and_batch("simclr", tau_c=0.3, head=head)
    a, b = (numbers(method.projector(method.backbone(batch.views[view]))) for view in method.views)
    assert loss_of(method, batch) == pytest.approx(reference(a, b, 0.3), rel=1e-5)


def test_the_released_heads():
    dogo, sdssl = (method_and_batch("simclr", head=head)[0].projector for head in ("dogo", "sdssl"))
    assert [type(layer) for layer in dogo] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert sum(isinstance(layer, nn.Linear) for layer in sdssl) == 3
    assert isinstance(sdssl[-1], nn.BatchNorm1d)
    assert not sdssl[-1].affine


def test_views_may_have_recipes_of_their_own():
    first, second = method_and_batch("simclr", recipe="simclr", second_recipe="weak")[0].views
    assert (first.recipe, second.recipe) == ("simclr", "weak")

"""SimCLR: the whole loss with either head, its views, and what it shows a student."""

import pytest
from helpers import references
from helpers.references import PROGRESS, features, in_float64, widths
from helpers.rows import make
from torch import nn

from raydistill.data.views.augment import View
from raydistill.methods import Batch


@pytest.mark.fault(18)
@pytest.mark.parametrize("head", ["dogo", "sdssl"])
def test_the_whole_loss(head):
    method, batch = in_float64("simclr", head=head, sdssl_dim=8, tau_c=0.3)
    a, b = (references.head(method.projector, features(method.backbone, batch, view)) for view in method.views)
    expected = references.nt_xent(a, b, 0.3)
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_the_heads_are_the_published_ones():
    dogo = make("simclr").head()
    assert widths(dogo) == [32, 8, 8]
    assert [type(layer) for layer in dogo] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [layer.bias is None for layer in dogo if isinstance(layer, nn.Linear)] == [True, False]
    sdssl = make("simclr", head="sdssl", sdssl_dim=16).head()
    assert widths(sdssl) == [32, 16, 16, 8]
    assert all(layer.bias is None for layer in sdssl if isinstance(layer, nn.Linear))
    assert isinstance(sdssl[-1], nn.BatchNorm1d)
    assert not sdssl[-1].affine


def test_the_second_view_has_a_recipe_of_its_own():
    assert make("simclr").views == (View("simclr", 0), View("simclr", 1))
    assert make("simclr", recipe="byol1", second_recipe="byol2").views == (View("byol1", 0), View("byol2", 1))


def test_the_order_of_the_views_does_not_matter():
    method, batch = in_float64("simclr")
    a, b = method.views
    swapped = Batch({a: batch.views[b], b: batch.views[a]}, batch.indices)
    before = method.loss(batch, PROGRESS)["loss"].item()
    assert method.loss(swapped, PROGRESS)["loss"].item() == pytest.approx(before, rel=1e-10)

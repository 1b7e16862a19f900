"""CC: ClusterFit with other options, and nothing else."""

import pytest
from helpers import references
from helpers.references import PROGRESS, assert_a_single_class_is_refused, features, in_float64

from raydistill.data.views.augment import View
from raydistill.methods import Batch
from raydistill.methods.baselines.cc import CC
from raydistill.methods.baselines.clusterfit import ClusterFit
from raydistill.options import find


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("cc")
    (view,) = method.views
    logits = references.head([method.classifier], features(method.backbone, batch, view))
    expected = references.cross_entropy(logits, batch.labels.numpy())
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_it_differs_from_clusterfit_only_by_options():
    assert CC.__mro__[1] is ClusterFit
    assert [name for name in vars(CC) if not name.startswith("__")] == []
    cc, clusterfit = (find(name)().model_dump() for name in ("cc", "clusterfit"))
    assert cc.keys() == clusterfit.keys()
    different = {name: (cc[name], clusterfit[name]) for name in cc if cc[name] != clusterfit[name]}
    assert different == {
        "name": ("cc", "clusterfit"),
        "kmeans_iterations": (20, 50),
        "recipe": ("rrcflip", "clusterfit"),
    }


def test_with_the_same_weights_and_images_it_has_clusterfits_loss():
    cc, batch = in_float64("cc")
    clusterfit, _ = in_float64("clusterfit")
    assert (cc.views, clusterfit.views) == ((View("rrcflip", 0),), (View("clusterfit", 0),))
    clusterfit.load_state_dict(cc.state_dict())
    same = Batch({clusterfit.views[0]: batch.views[cc.views[0]]}, batch.indices, labels=batch.labels)
    assert clusterfit.loss(same, PROGRESS)["loss"].item() == cc.loss(batch, PROGRESS)["loss"].item()


def test_a_single_class_is_refused():
    assert_a_single_class_is_refused("cc")

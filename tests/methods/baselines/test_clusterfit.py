"""ClusterFit: the whole loss, its classifier, and where its labels come from."""

import pytest
from helpers import references
from helpers.references import PROGRESS, assert_a_single_class_is_refused, features, in_float64
from helpers.rows import given, make, options

from raydistill import methods


@pytest.mark.fault(18)
def test_the_whole_loss():
    method, batch = in_float64("clusterfit")
    (view,) = method.views
    logits = references.head([method.classifier], features(method.backbone, batch, view))
    expected = references.cross_entropy(logits, batch.labels.numpy())
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_it_classifies_as_many_clusters_as_there_are():
    method = methods.build(options("clusterfit"), given(class_counts=(10, 20, 34)), seed=0)
    assert method.classifier.out_features == 3
    assert method.classifier.bias.shape == (3,)
    assert make("clusterfit").encoders().keys() == {"student"}


def test_labels_are_clusters_of_the_teachers_features():
    chosen = options("clusterfit", clusters=7, kmeans_iterations=11, label_seed=5)
    source = chosen.label_source()
    assert (source.kind, source.clusters, source.iterations, source.seed) == ("kmeans", 7, 11, 5)
    assert chosen.teacher_output() == "features"
    assert options("clusterfit", labels="random").teacher_output() is None


def test_a_single_class_is_refused():
    assert_a_single_class_is_refused("clusterfit")

"""ClusterFit: the whole loss against a reference, and where its labels come from."""

import numpy as np
import pytest
from helpers.embeddings import log_softmax, loss_of, method_and_batch, numbers
from helpers.rows import CLASSES, options


def test_the_loss_is_the_cross_entropy_of_the_cluster_ids():
    method, batch = method_and_batch("clusterfit")
    (view,) = method.views
    logits = numbers(method.classifier(method.backbone(batch.views[view])))
    labels = batch.labels.numpy()
    assert logits.shape == (len(labels), CLASSES)
    assert loss_of(method, batch) == pytest.approx(
        -log_softmax(logits)[np.arange(len(labels)), labels].mean(), rel=1e-5
    )


@pytest.mark.parametrize(("labels", "looks"), [("kmeans", "features"), ("prototypes", "features"), ("random", None)])
def test_only_clusters_need_a_teacher(labels, looks):
    chosen = options("clusterfit", labels=labels, clusters=7, kmeans_iterations=3, label_seed=2)
    assert chosen.teacher_output() == looks
    source = chosen.label_source()
    assert (source.kind, source.clusters, source.iterations, source.seed) == (labels, 7, 3, 2)

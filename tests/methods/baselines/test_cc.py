"""CC: ClusterFit with options of its own."""

import torch
from helpers.embeddings import PROGRESS, method_and_batch
from helpers.rows import batch_for

from raydistill.options import find


def test_it_differs_from_clusterfit_by_defaults_only():
    cc, clusterfit = (find(name)().model_dump() for name in ("cc", "clusterfit"))
    assert {key for key in cc if cc[key] != clusterfit[key]} == {"name", "kmeans_iterations", "recipe"}
    assert (cc["kmeans_iterations"], cc["recipe"]) == (20, "rrcflip")


def test_with_the_same_options_it_is_clusterfit():
    shared = {"clusters": 4, "kmeans_iterations": 5, "recipe": "weak"}
    a, b = (method_and_batch(name, **shared)[0] for name in ("cc", "clusterfit"))
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key])
    assert torch.equal(a.loss(batch_for(a), PROGRESS)["loss"], b.loss(batch_for(b), PROGRESS)["loss"])

"""Regress-BN."""

import numpy as np
import pytest
import torch
from helpers.rows import batch_for, make

from raydistill.methods import StepInfo

PROGRESS = StepInfo(0, 10)


def reference_raw(prediction, target):
    differences = [(a - b) ** 2 for p, t in zip(prediction, target, strict=True) for a, b in zip(p, t, strict=True)]
    return sum(differences) / len(differences)


class TestRegressBN:
    def test_batch_norm_standardises_both_sides_over_the_batch(self):
        method = make("regress_bn")
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
        target = batch.teachers[0](view, "features").double().numpy()
        standard = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (prediction, target)]
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(reference_raw(*standard), rel=1e-4)

    def test_statistics_of_the_batch_norms_are_state_and_not_weights(self):
        method = make("regress_bn")
        before = {name: value.clone() for name, value in method.state_dict().items() if "_norm.running" in name}
        method.loss(batch_for(method), PROGRESS)
        now = method.state_dict()
        assert len(before) == 4
        assert all(not torch.equal(value, now[name]) for name, value in before.items())
        assert not [name for name, _ in method.named_parameters() if "_norm." in name]
        assert not any("_norm" in name for name in make("regress").state_dict())

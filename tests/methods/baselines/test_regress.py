"""Regress."""

import pytest
from helpers.rows import batch_for, make

from raydistill.methods import StepInfo

PROGRESS = StepInfo(0, 10)


def reference_raw(prediction, target):
    differences = [(a - b) ** 2 for p, t in zip(prediction, target, strict=True) for a, b in zip(p, t, strict=True)]
    return sum(differences) / len(differences)


class TestRegress:
    def test_mean_squared_error_of_raw_features(self):
        method = make("regress").eval()
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
        expected = reference_raw(prediction, batch.teachers[0](view, "features").double().numpy())
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)

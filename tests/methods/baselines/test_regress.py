"""Regress: mean squared error to the raw feature through a linear head."""

import pytest
import torch
from helpers import references
from helpers.references import PROGRESS, assert_a_teacher_without_a_head_is_refused, features, in_float64
from helpers.rows import TEACHERS, batch_for, make


def test_mean_squared_error_of_raw_features():
    method = make("regress").eval()
    batch = batch_for(method)
    (view,) = method.views
    prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
    expected = references.raw_regression(prediction, batch.teachers[0](view, "features").double().numpy())
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("output", ["features", "head"])
def test_the_whole_loss_for_either_output_of_the_teacher(output):
    method, batch = in_float64("regress", teacher=output)
    (view,) = method.views
    prediction = references.head([method.projection], features(method.backbone, batch, view))
    assert prediction.shape == (6, getattr(TEACHERS[0], output))
    expected = references.raw_regression(prediction, batch.teachers[0](view, output).numpy())
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_lengths_matter():
    method, batch = in_float64("regress")
    before = method.loss(batch, PROGRESS)["loss"]
    with torch.no_grad():
        method.projection.weight.mul_(2)
        method.projection.bias.mul_(2)
    assert not torch.isclose(method.loss(batch, PROGRESS)["loss"], before)


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("regress")

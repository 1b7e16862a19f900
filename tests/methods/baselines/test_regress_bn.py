"""Regress-BN: Regress with a batch norm without parameters on both sides."""

import numpy as np
import pytest
import torch
from helpers import references
from helpers.references import PROGRESS, assert_a_teacher_without_a_head_is_refused, in_float64
from helpers.rows import batch_for, make, options


def test_batch_norm_standardises_both_sides_over_the_batch():
    method = make("regress_bn")
    batch = batch_for(method)
    (view,) = method.views
    prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
    target = batch.teachers[0](view, "features").double().numpy()
    standard = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (prediction, target)]
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(references.raw_regression(*standard), rel=1e-4)


def test_statistics_of_the_batch_norms_are_state_and_not_weights():
    method = make("regress_bn")
    before = {name: value.clone() for name, value in method.state_dict().items() if "_norm.running" in name}
    method.loss(batch_for(method), PROGRESS)
    now = method.state_dict()
    assert len(before) == 4
    assert all(not torch.equal(value, now[name]) for name, value in before.items())
    assert not [name for name, _ in method.named_parameters() if "_norm." in name]
    assert not any("_norm" in name for name in make("regress").state_dict())


def test_lengths_do_not_matter():
    method, batch = in_float64("regress_bn")
    before = method.loss(batch, PROGRESS)["loss"].item()
    with torch.no_grad():
        method.projection.weight.mul_(2)
        method.projection.bias.add_(1)
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(before, rel=1e-3)


def test_it_has_the_options_of_regress():
    assert options("regress_bn").model_dump(exclude={"name"}) == options("regress").model_dump(exclude={"name"})


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("regress_bn")

"""MoCo v3: the whole loss against a reference, its heads, and which network is scored."""

import numpy as np
import pytest
import torch
from helpers.embeddings import log_softmax, loss_of, method_and_batch, numbers, parameters, unit
from torch import nn

from raydistill.methods import StepInfo


def test_the_loss_is_info_nce_of_both_directions_times_two_tau():
    method, batch = method_and_batch("mocov3", tau=0.4)
    q = [unit(numbers(method.predictor(method.projector(method.backbone(batch.views[v]))))) for v in method.views]
    k = [unit(numbers(method.key_projector(method.key_backbone(batch.views[v])))) for v in method.views]
    terms = [-np.diag(log_softmax(a @ b.T / 0.4)).mean() for a, b in ((q[0], k[1]), (q[1], k[0]))]
    assert loss_of(method, batch) == pytest.approx(2 * 0.4 * sum(terms), rel=1e-5)


@pytest.mark.parametrize("wanted", [True, False])
def test_batch_norm_at_the_predictors_output_is_an_option(wanted):
    method, _ = method_and_batch("mocov3", predictor_batchnorm=wanted)
    assert isinstance(method.predictor[-1], nn.BatchNorm1d) == wanted
    assert isinstance(method.projector[-1], nn.BatchNorm1d)


def test_the_key_network_follows_after_the_step():
    method, _ = method_and_batch("mocov3", momentum=0.5)
    with torch.no_grad():
        for value in method.projector.parameters():
            value.add_(1.0)
    expected = 0.5 * parameters(method.key_projector) + 0.5 * parameters(method.projector)
    method.after_step(StepInfo(0, 10))
    torch.testing.assert_close(parameters(method.key_projector), expected)


@pytest.mark.parametrize(("encoder", "name"), [("student", "backbone"), ("ema", "key_backbone")])
def test_the_encoder_is_the_trained_network_or_its_average(encoder, name):
    method, _ = method_and_batch("mocov3", encoder=encoder)
    assert method.encoders()["student"] is getattr(method, name)

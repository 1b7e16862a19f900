"""Regression and distillation losses: references term by term, the released code's numbers, invariants."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import references
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.losses.regression import (
    cross_entropy,
    normalized_regression,
    raw_regression,
    soft_cross_entropy_kl,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def rows(seed, n=5, d=4, count=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.fault(18)
class TestLosses:
    def test_simreg_as_released(self):
        case = json.loads((GOLDEN / "simreg.json").read_text())
        student = torch.tensor(case["inputs"]["student"], dtype=torch.float64, requires_grad=True)
        loss = normalized_regression(student, torch.tensor(case["inputs"]["teacher"], dtype=torch.float64))
        loss.backward()
        assert loss.item() == pytest.approx(case["expected"]["loss"], abs=1e-10)
        np.testing.assert_allclose(student.grad, case["expected"]["grad_student"], atol=1e-10)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize(
        ("loss", "reference"),
        [(normalized_regression, references.normalized_regression), (raw_regression, references.raw_regression)],
    )
    def test_regression(self, loss, reference, dtype, tolerance):
        p, t = rows(1, n=7)
        expected = reference(p.numpy(), t.numpy())
        assert loss(p.to(dtype), t.to(dtype)).item() == pytest.approx(expected, rel=tolerance)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
    def test_supervised_terms(self, tau, dtype, tolerance):
        t, s = rows(2, n=6)
        labels = torch.tensor([0, 3, 1, 1, 2, 0])
        expected = references.distillation(t.numpy(), s.numpy(), tau)
        assert soft_cross_entropy_kl(t.to(dtype), s.to(dtype), tau).item() == pytest.approx(expected, rel=tolerance)
        expected = references.cross_entropy(s.numpy(), labels)
        assert cross_entropy(s.to(dtype), labels).item() == pytest.approx(expected, rel=tolerance)

    def test_gradients(self):
        p, t = rows(3, n=4)
        p.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: normalized_regression(x, t), p)
        assert torch.autograd.gradcheck(lambda x: raw_regression(x, t), p)
        assert torch.autograd.gradcheck(lambda x: soft_cross_entropy_kl(t, x, 2.0), p)


def test_no_gradient_reaches_the_teacher():
    for loss in (
        normalized_regression,
        raw_regression,
        lambda student, teacher: soft_cross_entropy_kl(teacher, student, 2.0),
    ):
        student, teacher = (x.requires_grad_() for x in rows(4))
        loss(student, teacher).backward()
        assert student.grad.abs().sum() > 0
        assert teacher.grad is None


@pytest.mark.fault(17)
def test_zero_norm_vectors_give_finite_losses():
    zero = torch.zeros(3, 4, requires_grad=True)
    other = torch.randn(3, 4)
    loss = normalized_regression(zero, other)
    (grad,) = torch.autograd.grad(loss, zero)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad).all()
    assert torch.isfinite(normalized_regression(other, torch.zeros(3, 4)))


@pytest.mark.fault(19)
class TestInvariants:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.01, 100), st.floats(0.01, 100))
    def test_normalized_regression_sees_directions_only(self, seed, n, a, b):
        p, t = rows(seed, n=n)
        loss = normalized_regression(p, t).item()
        assert 0 < loss <= 4
        assert normalized_regression(a * p, b * t).item() == pytest.approx(loss, rel=1e-9)
        assert normalized_regression(a * t, t).item() == pytest.approx(0, abs=1e-12)
        assert normalized_regression(-a * t, t).item() == pytest.approx(4, rel=1e-12)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.1, 10), st.floats(-5, 5))
    def test_distillation_is_zero_for_the_same_logits_up_to_a_shift(self, seed, n, tau, shift):
        t, s = rows(seed, n=n)
        assert soft_cross_entropy_kl(t, s, tau).item() > 0
        assert soft_cross_entropy_kl(t, t + shift, tau).item() == pytest.approx(0, abs=1e-12)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 9))
    def test_the_order_of_the_batch_does_not_matter(self, seed, n):
        p, t = rows(seed, n=n)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        for loss in (normalized_regression, raw_regression, lambda x, y: soft_cross_entropy_kl(y, x, 4.0)):
            assert loss(p[order], t[order]).item() == pytest.approx(loss(p, t).item(), rel=1e-9)

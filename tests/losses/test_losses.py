"""Losses against the released code's numbers, independent float64 references, gradients and invariants."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import references
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.losses.contrastive import nt_xent, simsiam
from raydistill.losses.similarity import cross_view_logits, mean_distribution, row_kl

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    inputs = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in case["inputs"].items()}
    return inputs, case["expected"], case["settings"]


def rows(seed, n=5, d=4, count=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def reference_kl(teacher, student, tau):
    """Sum over rows of KL(teacher ‖ student) of the cross-view similarities."""
    probs = []
    for a, b in (teacher, student):
        logits = references.unit(a) @ references.unit(b).T / tau
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs.append(e / e.sum(axis=1, keepdims=True))
    return float((probs[0] * np.log(probs[0] / probs[1])).sum())


def kl(teacher, student, tau, reduction="element_mean"):
    target = mean_distribution([cross_view_logits(*teacher, tau)])
    return row_kl(target, cross_view_logits(*student, tau), reduction)


@pytest.mark.fault(18)
class TestReleasedCode:
    @pytest.mark.parametrize("name", ["dogo_kl_tau0.1", "dogo_kl_tau0.5"])
    def test_dogo(self, name):
        x, expected, options = golden(name)
        one, two = (x["a1"], x["b1"]), (x["a2"], x["b2"])
        loss_1, loss_2 = kl(two, one, options["tau"]), kl(one, two, options["tau"])
        (loss_1 + 3 * loss_2).backward()
        assert loss_1.item() == pytest.approx(expected["loss_1"], abs=1e-10)
        assert loss_2.item() == pytest.approx(expected["loss_2"], abs=1e-10)
        for key in x:
            np.testing.assert_allclose(x[key].grad, expected[f"grad_{key}"], atol=1e-10)

    def test_nt_xent(self):
        x, expected, options = golden("simclr_ntxent")
        loss = nt_xent(x["a"], x["b"], options["tau"])
        loss.backward()
        assert loss.item() == pytest.approx(expected["loss"], abs=1e-10)
        for key in x:
            np.testing.assert_allclose(x[key].grad, expected[f"grad_{key}"], atol=1e-10)

    def test_simsiam(self):
        x, expected, _ = golden("simsiam")
        assert simsiam(x["pa"], x["pb"], x["za"], x["zb"]).item() == pytest.approx(expected["loss"], abs=1e-10)


@pytest.mark.fault(18)
class TestIndependentReference:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("tau", [0.05, 0.5, 1.0])
    def test_nt_xent(self, tau, dtype, tolerance):
        a, b = rows(1, n=7)
        expected = references.nt_xent(a.numpy(), b.numpy(), tau)
        assert nt_xent(a.to(dtype), b.to(dtype), tau).item() == pytest.approx(expected, rel=tolerance)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("tau", [0.1, 1.0])
    def test_kl_and_its_reductions(self, tau, dtype, tolerance):
        a, b = rows(2, n=6, d=8)
        c, d = rows(3, n=6, d=5)
        total = reference_kl((a.numpy(), b.numpy()), (c.numpy(), d.numpy()), tau)
        teacher, student = [(u.to(dtype), v.to(dtype)) for u, v in ((a, b), (c, d))]
        assert kl(teacher, student, tau).item() == pytest.approx(total / 36, rel=tolerance)
        assert kl(teacher, student, tau, "batchmean").item() == pytest.approx(total / 6, rel=tolerance)

    def test_simsiam(self):
        pa, pb, za, zb = rows(4, count=4)
        cosines = [
            float(np.mean([p @ z / (np.linalg.norm(p) * np.linalg.norm(z)) for p, z in zip(x, y, strict=True)]))
            for x, y in ((pa.numpy(), zb.numpy()), (pb.numpy(), za.numpy()))
        ]
        assert simsiam(pa, pb, za, zb).item() == pytest.approx(-sum(cosines) / 2, rel=1e-10)

    def test_gradients(self):
        a, b, c, d = (x.requires_grad_() for x in rows(5, n=4, d=3, count=4))
        assert torch.autograd.gradcheck(lambda x, y: nt_xent(x, y, 0.5), (a, b))
        target = mean_distribution([cross_view_logits(c, d, 0.3)]).detach()
        assert torch.autograd.gradcheck(lambda x, y: row_kl(target, cross_view_logits(x, y, 0.3)), (a, b))
        za, zb = rows(6, n=4, d=3)
        assert torch.autograd.gradcheck(lambda x, y: simsiam(x, y, za, zb), (a, b))


def test_no_gradient_reaches_the_teacher():
    a, b, c, d = (x.requires_grad_() for x in rows(7, count=4))
    kl((a, b), (c, d), 0.1).backward()
    assert a.grad is None or not a.grad.any()
    assert b.grad is None or not b.grad.any()
    assert c.grad.abs().sum() > 0
    za, zb, pa, pb = (x.requires_grad_() for x in rows(8, count=4))
    simsiam(pa, pb, za, zb).backward()
    assert za.grad is None
    assert zb.grad is None


def test_losses_are_computed_in_float32_under_autocast():
    a, b = rows(9, n=8, d=16, dtype=torch.float32)
    expected = nt_xent(a.bfloat16().float(), b.bfloat16().float(), 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nt_xent(a.bfloat16(), b.bfloat16(), 0.1), expected)


@pytest.mark.fault(17)
def test_zero_norm_embeddings_give_finite_losses():
    zero = torch.zeros(4, 3, requires_grad=True)
    other = torch.randn(4, 3)
    for loss in (nt_xent(zero, other, 0.1), simsiam(zero, other, other, other), kl((other, other), (zero, zero), 0.1)):
        (grad,) = torch.autograd.grad(loss, zero)
        assert torch.isfinite(loss)
        assert torch.isfinite(grad).all()


@pytest.mark.fault(19)
class TestInvariants:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.05, 2), st.floats(0.1, 50))
    def test_permutation_and_scale(self, seed, n, tau, scale):
        a, b, c, d = rows(seed, n=n, count=4)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        assert nt_xent(a[order], b[order] * scale, tau).item() == pytest.approx(nt_xent(a, b, tau).item(), rel=1e-9)
        moved = kl((a[order], b[order]), (c[order] * scale, d[order]), tau)
        assert moved.item() == pytest.approx(kl((a, b), (c, d), tau).item(), rel=1e-8, abs=1e-14)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.05, 2))
    def test_bounds(self, seed, n, tau):
        a, b, c, d = rows(seed, n=n, count=4)
        assert nt_xent(a, b, tau).item() > 0
        assert -1 <= simsiam(a, b, c, d).item() <= 1
        assert kl((a, b), (c, d), tau).item() >= 0
        assert kl((a, b), (3 * a, b / 2), tau).item() == pytest.approx(0, abs=1e-12)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 9))
    def test_element_mean_times_n_is_batchmean(self, seed, n):
        a, b, c, d = rows(seed, n=n, count=4)
        element = kl((a, b), (c, d), 0.1).item()
        assert element * n == pytest.approx(kl((a, b), (c, d), 0.1, "batchmean").item(), rel=1e-12)

"""The losses of SEED, CompRess, SimReg and SDSSL against the numbers of their released code, within 1e-10."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.golden_numbers import golden
from helpers.rows import make

from raydistill.losses.contrastive import info_nce, masked_info_nce, nt_xent
from raydistill.losses.queues import compress, seed_loss
from raydistill.losses.regression import normalized_regression
from raydistill.losses.weights import weight_at
from raydistill.methods import StepInfo
from raydistill.models.queue import Queue

pytestmark = pytest.mark.fault(18)
EXACT = {"abs": 1e-10}


def queue_of(rows):
    queue = Queue(*rows.shape).double()
    queue.rows.copy_(rows.detach())
    return queue


def oldest_first(ring, pushed):
    """A queue of the released code, which writes in a ring, in our order."""
    return np.roll(np.array(ring), -pushed, axis=0)


@pytest.mark.parametrize("name", ["seed_tauT0.1_tauS0.5", "seed_tauT0.01_tauS0.2", "seed_tauT0.0001_tauS0.2"])
def test_seed_over_three_batches(name):
    x, expected, options = golden(name)
    queue = queue_of(x["queue_initial"])
    for step in range(3):
        student, teacher = x[f"student_{step}"], x[f"teacher_{step}"]
        loss = seed_loss(student, teacher, queue.rows, options["tau_s"], options["tau_t"])
        loss.backward()
        queue.push(F.normalize(teacher.detach(), dim=1))
        assert loss.item() == pytest.approx(expected[f"loss_{step}"], **EXACT)
        np.testing.assert_allclose(student.grad, expected[f"grad_student_{step}"], atol=1e-10)
        np.testing.assert_allclose(queue.rows, oldest_first(expected[f"queue_after_{step}"], 4 * step + 4), atol=1e-10)
        assert teacher.grad is None


@pytest.mark.parametrize("queues", [1, 2])
def test_compress_over_three_batches(queues):
    """Through the method itself, its backbone left out: two queues without momentum, as released."""
    x, expected, options = golden(f"compress_{queues}q")
    method = make(f"compress_{queues}q", student_momentum=None, tau=options["T"])
    method.teacher_queue = queue_of(x["teacher_queue_initial"])
    if queues == 2:
        method.student_queue = queue_of(x["student_queue_initial"])
    for step in range(3):
        student, teacher = x[f"student_{step}"], x[f"teacher_{step}"]
        own = method.student_queue if queues == 2 else method.teacher_queue
        loss = compress(student, teacher, own.rows, method.teacher_queue.rows, options["T"])
        loss.backward()
        method.teacher_queue.push(F.normalize(teacher.detach(), dim=1))
        if queues == 2:
            method.student_queue.push(F.normalize(student.detach(), dim=1))
        assert loss.item() == pytest.approx(expected[f"loss_{step}"], **EXACT)
        np.testing.assert_allclose(student.grad, expected[f"grad_student_{step}"], atol=1e-10)
        after = oldest_first(expected[f"teacher_queue_after_{step}"], 4 * step + 4)
        np.testing.assert_allclose(method.teacher_queue.rows, after, atol=1e-10)


def test_simreg():
    x, expected, _ = golden("simreg")
    loss = normalized_regression(x["student"], x["teacher"])
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], **EXACT)
    np.testing.assert_allclose(x["student"].grad, expected["grad_student"], atol=1e-10)
    assert x["teacher"].grad is None


class TestSDSSL:
    def test_mocov3_terms(self):
        x, expected, options = golden("sdssl_mocov3")
        method = make("sdssl", tau=options["tau"])
        blocks, n = options["blocks"], len(x["z_a"])
        pairs = [(x["q_a"], x["z_a"]), (x["q_b"], x["z_b"])]
        ssl = sum(method.base(q[-n:], z) for q, z in pairs)
        isd = sum(method.base(q[:-n], z) for q, z in pairs)
        detached = [(x["detached_a"], x["z_a"]), (x["detached_b"], x["z_b"])]
        pred = sum(method.base(q, z) for q, z in detached)
        total = ssl + options["alpha"] * isd + options["beta"] * blocks * pred
        total.backward()
        for name, value in {"ssl": ssl, "isd": isd, "pred": pred, "total": total}.items():
            assert value.item() == pytest.approx(expected[name], **EXACT), name
        np.testing.assert_allclose(x["q_a"].grad, expected["grad_q_a"], atol=1e-10)
        np.testing.assert_allclose(x["detached_b"].grad, expected["grad_detached_b"], atol=1e-10)
        assert x["z_a"].grad is None

    def test_simclr_terms(self):
        x, expected, options = golden("sdssl_simclr")
        output, middle = x["output"], x["mid"]
        n, tau = len(output) // 2, options["tau"]
        ssl = nt_xent(output[:n], output[n:], tau)
        isd = masked_info_nce(middle, output, tau)
        total = ssl + options["alpha"] * isd
        total.backward()
        assert ssl.item() == pytest.approx(expected["ssl"], **EXACT)
        assert isd.item() == pytest.approx(expected["isd"], **EXACT)
        assert total.item() == pytest.approx(expected["total"], **EXACT)
        np.testing.assert_allclose(output.grad, expected["grad_output"], atol=1e-10)
        np.testing.assert_allclose(middle.grad, expected["grad_mid"], atol=1e-10)

    def test_simclr_method_combines_them_the_same_way(self):
        x, expected, options = golden("sdssl_simclr")
        n = len(x["output"]) // 2
        method = make("sdssl", framework="simclr", tau=options["tau"])
        blocks = [*x["mid"].split(2 * n), x["output"]]
        terms = method.combine_simclr([b[:n] for b in blocks], [b[n:] for b in blocks], options["alpha"])
        assert terms["loss"].item() == pytest.approx(expected["total"], **EXACT)

    def test_byol_distance(self):
        x, expected, _ = golden("sdssl_byol_pair")
        method = make("sdssl", framework="byol")
        assert method.base(x["q"], x["z"]).item() == pytest.approx(expected["loss"], **EXACT)

    def test_alpha_at_every_step(self):
        _, expected, options = golden("sdssl_alpha")
        total = options["epochs"] * options["steps_per_epoch"]
        alphas = [weight_at(step, total, options["alpha_max"], "cosine") for step in range(total)]
        assert alphas == pytest.approx(expected["alpha"], **EXACT)


def test_info_nce_is_the_diagonal_of_a_softmax_times_two_tau():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    cosines = (q / q.norm(dim=1, keepdim=True)).numpy() @ (k / k.norm(dim=1, keepdim=True)).numpy().T / 0.3
    losses = [np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(cosines)]
    assert info_nce(q, k, 0.3).item() == pytest.approx(2 * 0.3 * np.mean(losses), rel=1e-12)


def test_progress_reaches_the_released_alpha_in_the_method():
    method = make("sdssl", alpha=0.8, beta=0.0)
    from helpers.rows import batch_for

    torch.manual_seed(0)
    terms = method.loss(batch_for(method), StepInfo(7, 20))
    weight = (terms["loss"] - terms["ssl"]) / terms["isd"]
    assert weight.item() == pytest.approx(golden("sdssl_alpha")[1]["alpha"][7], rel=1e-4)

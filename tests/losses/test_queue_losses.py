"""Losses against a queue of embeddings: references term by term, invariants, degenerate input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import softmax, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.losses.queues import (
    binary_contrastive,
    centroid_cross_entropy,
    compress,
    log_normalizer,
    moco,
    seed_loss,
    squared_distance,
)


def rows(seed, *shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.fault(18)
class TestReferences:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("own", [True, False])
    def test_seed(self, own, dtype, tolerance):
        student, teacher, queue = rows(0, (5, 4), (5, 4), (7, 4))
        queue = F.normalize(queue, dim=1)
        expected = references.seed(student.numpy(), teacher.numpy(), queue.numpy(), 0.2, 0.05, own)
        got = seed_loss(student.to(dtype), teacher.to(dtype), queue.to(dtype), 0.2, 0.05, own)
        assert got.item() == pytest.approx(expected, rel=tolerance)

    def test_moco(self):
        q, k, queue = rows(1, (5, 4), (5, 4), (7, 4))
        queue = F.normalize(queue, dim=1)
        expected = references.moco(q.numpy(), k.numpy(), queue.numpy(), 0.2)
        assert moco(q, k, queue, 0.2).item() == pytest.approx(expected, rel=1e-10)

    def test_compress_with_a_queue_each(self):
        student, teacher, own, theirs = rows(2, (5, 3), (5, 4), (7, 3), (7, 4))
        own, theirs = F.normalize(own, dim=1), F.normalize(theirs, dim=1)
        expected = references.compress(student.numpy(), teacher.numpy(), own.numpy(), theirs.numpy(), 0.1)
        assert compress(student, teacher, own, theirs, 0.1).item() == pytest.approx(expected, rel=1e-10)

    def test_binary_contrastive(self):
        student, teacher, queue = rows(3, (5, 4), (5, 4), (7, 4))
        queue, images = F.normalize(queue, dim=1), 100
        expected = references.binary_contrastive(student.numpy(), teacher.numpy(), queue.numpy(), 0.3, images)
        got = binary_contrastive(student, teacher, queue, 0.3, images)
        assert got.item() == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_binary_contrastive_with_the_normalizer_of_the_released_code(self, dtype, tolerance):
        student, teacher, queue = rows(7, (5, 4), (5, 4), (7, 4))
        queue, images = F.normalize(queue, dim=1), 100
        expected, z = references.crd_released(student.numpy(), teacher.numpy(), queue.numpy(), 0.3, images)
        given = [each.to(dtype) for each in (student, teacher, queue)]
        log_z = log_normalizer(*given, 0.3, images)
        assert log_z.exp().item() == pytest.approx(z, rel=tolerance)
        got = binary_contrastive(*given, 0.3, images, log_z)
        assert got.item() == pytest.approx(expected, rel=tolerance)

    def test_squared_distance_and_centroids(self):
        student, teacher, centroids = rows(4, (5, 4), (5, 4), (3, 4))
        gap = unit(student.numpy()) - unit(teacher.numpy())
        assert squared_distance(student, teacher).item() == pytest.approx((gap**2).sum(1).mean(), rel=1e-10)
        centroids, assigned = F.normalize(centroids, dim=1), [0, 2, 1, 1, 0]
        losses = [
            -np.log(softmax(centroids.numpy() @ s / 0.2)[c])
            for s, c in zip(unit(student.numpy()), assigned, strict=True)
        ]
        got = centroid_cross_entropy(student, centroids, torch.tensor(assigned), 0.2)
        assert got.item() == pytest.approx(np.mean(losses), rel=1e-10)

    def test_gradients(self):
        student, teacher, queue = rows(5, (4, 3), (4, 3), (6, 3))
        student.requires_grad_()
        queue = F.normalize(queue, dim=1)
        for loss in (
            lambda s: seed_loss(s, teacher, queue, 0.5, 0.3),
            lambda s: moco(s, teacher, queue, 0.5),
            lambda s: compress(s, teacher, queue, queue, 0.5),
            lambda s: binary_contrastive(s, teacher, queue, 0.5, 50),
            lambda s: squared_distance(s, teacher),
        ):
            assert torch.autograd.gradcheck(loss, (student,))


def test_no_gradient_reaches_the_teacher():
    student, teacher, queue = (x.requires_grad_() for x in rows(6, (4, 3), (4, 3), (6, 3)))
    fixed = F.normalize(queue.detach(), dim=1)
    total = seed_loss(student, teacher, fixed, 0.2, 0.1) + moco(student, teacher, fixed, 0.2)
    total = total + compress(student, teacher, fixed, fixed, 0.1) + binary_contrastive(student, teacher, fixed, 0.1, 9)
    (total + squared_distance(student, teacher)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.fault(19)
class TestInvariants:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 8), st.integers(3, 9))
    def test_a_cold_teacher_is_info_nce_with_its_embedding_as_the_positive(self, seed, n, k):
        student, teacher, queue = rows(seed, (n, 8), (n, 8), (k, 8))
        queue = F.normalize(queue, dim=1)
        assert seed_loss(student, teacher, queue, 0.2, 1e-5).item() == pytest.approx(
            moco(student, teacher, queue, 0.2).item(), abs=1e-5
        )

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0.05, 1))
    def test_the_least_loss_is_the_teachers_entropy(self, seed, tau):
        teacher, other, queue = rows(seed, (4, 5), (4, 5), (6, 5))
        queue = F.normalize(queue, dim=1)
        own = seed_loss(teacher, teacher, queue, tau, tau)
        t = F.normalize(teacher, dim=1)
        p = F.softmax(torch.cat([torch.ones(4, 1, dtype=t.dtype), t @ queue.T], 1) / tau, 1)
        assert own.item() == pytest.approx(-(p * p.log()).sum(1).mean().item(), rel=1e-9)
        assert seed_loss(other, teacher, queue, tau, tau).item() >= own.item() - 1e-9
        assert (p.argmax(1) == 0).all()

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0.1, 20))
    def test_scale_and_order_change_nothing(self, seed, scale):
        student, teacher, queue = rows(seed, (5, 4), (5, 4), (6, 4))
        queue = F.normalize(queue, dim=1)
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        for loss in (
            lambda s, t, q: seed_loss(s, t, q, 0.2, 0.1),
            lambda s, t, q: moco(s, t, q, 0.2),
            lambda s, t, q: compress(s, t, q, q, 0.2),
        ):
            whole = loss(student, teacher, queue).item()
            assert loss(student[order] * scale, teacher[order], queue[[5, 0, 2, 1, 4, 3]]).item() == pytest.approx(
                whole, rel=1e-9
            )

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6))
    def test_compress_is_zero_for_the_same_similarities(self, seed):
        teacher, queue = rows(seed, (4, 5), (6, 5))
        queue = F.normalize(queue, dim=1)
        assert compress(3 * teacher, teacher, queue, queue, 0.1).item() == pytest.approx(0, abs=1e-12)


class TestCollapse:
    """Embeddings of a trained student, uniform on the sphere, against the best constants of student and teacher."""

    @pytest.fixture(scope="class")
    def uniform(self):
        own, others = rows(11, (64, 128), (16384, 128), dtype=torch.float32)
        return F.normalize(own, dim=1), F.normalize(others, dim=1)

    def losses(self, uniform, k, images, tau, normalized):
        (own, others), (start,) = uniform, rows(12, (64, 128), dtype=torch.float32)
        queue = others[:k]
        log_z = log_normalizer(start, own, queue, tau, images) if normalized else 0.0
        spread = binary_contrastive(own, own, queue, tau, images, log_z).item()
        constants = []
        for angle in torch.linspace(0, torch.pi, 200):
            student, teacher = torch.tensor([[1.0, 0.0]]), torch.stack([angle.cos(), angle.sin()])[None]
            constants.append(binary_contrastive(student, teacher, teacher.expand(k, 2), tau, images, log_z).item())
        return spread, min(constants)

    @pytest.mark.parametrize(("k", "images"), [(128, 1150), (512, 1150), (1024, 40_000), (16384, 1_281_167)])
    @pytest.mark.parametrize("tau", [0.05, 0.07, 0.1, 0.2])
    def test_a_student_that_spreads_out_beats_constants_under_the_normalizer(self, uniform, k, images, tau):
        spread, constant = self.losses(uniform, k, images, tau, True)
        assert spread < constant
        # No logit x is better for all: min of softplus(-x) + K softplus(x), at e^x = 1/K.
        assert constant == pytest.approx(np.log(1 + k) + k * np.log1p(1 / k), rel=0.01)

    @pytest.mark.parametrize(("k", "images"), [(512, 1150), (1024, 40_000), (16384, 1_281_167)])
    def test_as_printed_constants_win(self, uniform, k, images):
        spread, constant = self.losses(uniform, k, images, 0.07, False)
        assert constant < 15 < 600 < spread

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 8), st.integers(3, 9), st.integers(10, 10**6))
    def test_the_number_of_images_cancels(self, seed, n, k, images):
        """Z is proportional to M, and h compares e^s/Z with K/M."""
        student, teacher, queue = rows(seed, (n, 8), (n, 8), (k, 8))
        queue = F.normalize(queue, dim=1)
        known = [log_normalizer(student, teacher, queue, 0.2, each) for each in (images, 10)]
        found = [
            binary_contrastive(student, teacher, queue, 0.2, each, log_z).item()
            for each, log_z in zip((images, 10), known, strict=True)
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.fault(17)
def test_zero_norm_embeddings_give_finite_losses():
    zero, other = torch.zeros(4, 3, requires_grad=True), torch.randn(4, 3)
    queue = F.normalize(torch.randn(5, 3), dim=1)
    for loss in (
        seed_loss(zero, other, queue, 0.2, 0.01),
        seed_loss(other, zero, queue, 0.2, 0.01),
        moco(zero, other, queue, 0.2),
        compress(zero, other, queue, queue, 0.04),
        binary_contrastive(zero, other, queue, 0.07, 10),
        squared_distance(zero, other),
    ):
        assert torch.isfinite(loss)
        if loss.requires_grad:
            (grad,) = torch.autograd.grad(loss, zero)
            assert torch.isfinite(grad).all()

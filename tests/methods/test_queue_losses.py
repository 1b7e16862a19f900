"""SEED, MoCo, CompRess, CRD and the queue: references term by term, invariants, degenerate input."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.rows import batch_for, make
from helpers.rows import given as given_for
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import methods
from raydistill.losses.queues import (
    binary_contrastive,
    centroid_cross_entropy,
    compress,
    moco,
    seed_loss,
    squared_distance,
)
from raydistill.methods import StepInfo
from raydistill.models.queue import ALIGNMENT, EmbeddingLog, Queue, TeacherBatch, aligned_copy

PROGRESS = StepInfo(1, 10)
ACTS = ("share", "share", "share", "own", "wait", "load", "copy")


def rows(seed, *shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def reference_seed(student, teacher, queue, tau_s, tau_t, own):
    total = 0.0
    for s, t in zip(unit(student), unit(teacher), strict=True):
        candidates = [t, *queue] if own else list(queue)
        p_t = softmax(np.array([t @ d / tau_t for d in candidates]))
        p_s = softmax(np.array([s @ d / tau_s for d in candidates]))
        total -= sum(a * np.log(b) for a, b in zip(p_t, p_s, strict=True))
    return total / len(student)


@pytest.mark.fault(18)
class TestReferences:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("own", [True, False])
    def test_seed(self, own, dtype, tolerance):
        student, teacher, queue = rows(0, (5, 4), (5, 4), (7, 4))
        queue = F.normalize(queue, dim=1)
        expected = reference_seed(student.numpy(), teacher.numpy(), queue.numpy(), 0.2, 0.05, own)
        got = seed_loss(student.to(dtype), teacher.to(dtype), queue.to(dtype), 0.2, 0.05, own)
        assert got.item() == pytest.approx(expected, rel=tolerance)

    def test_moco(self):
        q, k, queue = rows(1, (5, 4), (5, 4), (7, 4))
        queue = F.normalize(queue, dim=1)
        losses = []
        for a, b in zip(unit(q.numpy()), unit(k.numpy()), strict=True):
            scores = np.array([a @ b, *(queue.numpy() @ a)]) / 0.2
            losses.append(-np.log(softmax(scores)[0]))
        assert moco(q, k, queue, 0.2).item() == pytest.approx(np.mean(losses), rel=1e-10)

    def test_compress_with_a_queue_each(self):
        student, teacher, own, theirs = rows(2, (5, 3), (5, 4), (7, 3), (7, 4))
        own, theirs = F.normalize(own, dim=1), F.normalize(theirs, dim=1)
        total = 0.0
        for s, t in zip(unit(student.numpy()), unit(teacher.numpy()), strict=True):
            p, q = softmax(theirs.numpy() @ t / 0.1), softmax(own.numpy() @ s / 0.1)
            total += (p * np.log(p / q)).sum()
        assert compress(student, teacher, own, theirs, 0.1).item() == pytest.approx(total / 5, rel=1e-10)

    def test_binary_contrastive(self):
        student, teacher, queue = rows(3, (5, 4), (5, 4), (7, 4))
        queue, images = F.normalize(queue, dim=1), 100
        total = 0.0
        for s, t in zip(unit(student.numpy()), unit(teacher.numpy()), strict=True):
            own = np.exp(s @ t / 0.3)
            total -= np.log(own / (own + 7 / images))
            for d in queue.numpy():
                other = np.exp(s @ d / 0.3)
                total -= np.log(1 - other / (other + 7 / images))
        got = binary_contrastive(student, teacher, queue, 0.3, images)
        assert got.item() == pytest.approx(total / 5, rel=1e-10)

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
    @given(st.integers(1, 9), st.lists(st.integers(1, 14), min_size=1, max_size=6))
    def test_the_queue_holds_the_newest_rows(self, size, batches):
        queue, seen = Queue(size, 1), []
        for count in batches:
            new = torch.arange(len(seen), len(seen) + count, dtype=torch.float32)[:, None] + 100
            seen += new[:, 0].tolist()
            queue.push(new)
        newest = seen[-size:]
        assert queue.rows[size - len(newest) :, 0].tolist() == newest

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6))
    def test_compress_is_zero_for_the_same_similarities(self, seed):
        teacher, queue = rows(seed, (4, 5), (6, 5))
        queue = F.normalize(queue, dim=1)
        assert compress(3 * teacher, teacher, queue, queue, 0.1).item() == pytest.approx(0, abs=1e-12)


class TestTrail:
    """Queues that take a teacher's entries hold what queues of their own would."""

    @staticmethod
    def entries(log, *, n=4, seed=0, dim=3):
        return TeacherBatch(rows(seed, (n, dim), dtype=torch.float32)[0], log)

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.integers(1, 12), min_size=1, max_size=4),
        st.lists(st.tuples(st.integers(1, 9), st.lists(st.sampled_from(ACTS), min_size=4, max_size=4)), max_size=16),
    )
    def test_is_the_newest_rows_of_each_queue(self, sizes, steps):
        """Each queue shares the batch, takes rows of its own, waits, or is copied or loaded before it shares."""
        log = EmbeddingLog()
        queues = [Queue(size, 3) for size in sizes]
        models = [list(queue.rows.clone()) for queue in queues]
        for number, (n, acts) in enumerate(steps):
            batch = self.entries(log, n=n, seed=number)
            for k, (size, act) in enumerate(zip(sizes, acts, strict=False)):
                assert torch.equal(queues[k].similarities(batch), batch.rows @ aligned_copy(torch.stack(models[k])).T)
                if act == "load":
                    other = Queue(size, 3)
                    other.load_state_dict(queues[k].state_dict())
                    queues[k].load_state_dict(copy.deepcopy(queues[k].state_dict()))
                    queues[k] = other
                elif act == "copy":
                    queues[k] = copy.deepcopy(queues[k])
                if act == "wait":
                    continue
                queues[k].push(batch.rows + 1 if act == "own" else batch)
                models[k] = [*models[k], *(batch.rows + 1 if act == "own" else batch.rows)][-size:]
            for queue, model in zip(queues, models, strict=True):
                assert torch.equal(queue.rows, torch.stack(model))
                assert queue.rows.data_ptr() % ALIGNMENT == queue.rows.stride(0) * 4 % ALIGNMENT == 0

    def test_queues_of_any_length_lie_in_one_block_of_little_more_than_the_longest(self):
        log, queues = EmbeddingLog(), [Queue(size, 16) for size in (64, 512, 512)]
        for number in range(200):
            batch = self.entries(log, seed=number, dim=16)
            for queue in queues:
                queue.push(batch)
        blocks = [queue.rows.untyped_storage() for queue in queues]
        assert len({block.data_ptr() for block in blocks}) == 1
        assert blocks[0].nbytes() < 1.25 * 512 * 16 * 4

    def test_the_block_shrinks_when_the_longest_queue_has_gone(self):
        log, long, short = EmbeddingLog(), Queue(512, 16), Queue(8, 16)
        for number in range(400):
            batch = self.entries(log, seed=number, dim=16)
            for queue in (long, short)[number > 200 :]:
                queue.push(batch)
        assert short.rows.untyped_storage().nbytes() < 64 * 16 * 4
        assert torch.equal(short.rows[-4:], batch.rows)

    def test_a_state_is_loaded_beside_the_trail_not_into_it(self):
        log, one, other = EmbeddingLog(), Queue(8, 3), Queue(8, 3)
        for number in range(3):
            batch = self.entries(log, seed=number)
            one.push(batch), other.push(batch)
        kept = other.rows.clone()
        one.load_state_dict(Queue(8, 3).state_dict())
        assert torch.equal(other.rows, kept)
        assert list(one.state_dict()) == ["rows"]

    def test_a_copied_method_goes_on_by_itself(self):
        method = make("seed")
        for seed in range(4):
            method.loss(batch_for(method, seed=seed), PROGRESS)
            method.after_step(PROGRESS)
        twin = copy.deepcopy(method)
        for one in (method, twin):
            one.loss(batch_for(one, seed=5), PROGRESS)
            one.after_step(PROGRESS)
        assert torch.equal(method.queue.rows, twin.queue.rows)


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


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("name", "option"),
    [("seed", "queue_size"), ("mocov2", "queue_size"), ("compress_1q", "queue_size"), ("crd", "negatives")],
)
def test_a_queue_longer_than_the_data_is_refused(name, option):
    from helpers.rows import options

    with pytest.raises(
        ValueError, match=rf"method.{option} = 65 is longer than the 64 training images; use at most 64"
    ):
        methods.build(options(name, **{option: 65}), given_for(), seed=0)


class TestSEED:
    def test_the_batch_enters_the_queue_after_the_step_only(self):
        method = make("seed")
        before = method.queue.rows.clone()
        batch = batch_for(method)
        method.loss(batch, PROGRESS)
        assert torch.equal(method.queue.rows, before)
        method.after_step(PROGRESS)
        expected = F.normalize(batch.teachers[0](method.views[0], "head"), dim=1)
        assert torch.equal(method.queue.rows, torch.cat((before[6:], expected)))

    @pytest.mark.parametrize(
        "loss", ["seed", "l2", "kmeans", "online_clustering", "binary_contrastive", "seed_moco", "a5"]
    )
    def test_every_alternative_trains_the_student(self, loss):
        method = make("seed", loss=loss)
        for seed in range(2):
            terms = method.loss(batch_for(method, seed=seed), PROGRESS)
            assert math.isfinite(terms["loss"].item())
            terms["loss"].backward()
            method.after_step(PROGRESS)
        assert sum(p.grad.abs().sum() for p in method.backbone.parameters()) > 0

    def test_strategies_ask_for_the_views_they_need(self):
        views = {
            name: make("seed", strategy=name, small_views=2).views
            for name in ("same", "cross", "large_small_cross", "large_small")
        }
        assert [tuple(v) for v in views["same"]] == [("moco2", 0)]
        assert [tuple(v) for v in views["cross"]] == [("moco2", 0), ("moco2", 1)]
        small = [("moco2", 0), ("swav_small", 0), ("swav_small", 1)]
        assert [tuple(v) for v in views["large_small_cross"]] == small
        assert [tuple(v) for v in views["large_small"]] == small

    def test_large_small_enqueues_the_first_patch_only_and_adds_the_losses(self):
        method = make("seed", strategy="large_small", small_views=3)
        before = method.small_queue.rows.clone()
        batch = batch_for(method)
        terms = method.loss(batch, PROGRESS)
        torch.testing.assert_close(terms["loss"], terms["large"] + terms["small"])
        method.after_step(PROGRESS)
        first = F.normalize(batch.teachers[0](method.small[0], "head"), dim=1)
        assert torch.equal(method.small_queue.rows, torch.cat((before[6:], first)))

    def test_kmeans_weighs_clusters_alike(self):
        from helpers.rows import options

        counts = (1, 3, 4, 8)
        method = methods.build(options("seed", loss="kmeans"), given_for(class_counts=counts), seed=0)
        weights = method.alternative.weights
        assert (weights * torch.tensor(counts)).tolist() == pytest.approx([4.0] * 4)

    def test_online_centroids_move_after_the_step_only_and_stay_unit(self):
        method = make("seed", loss="online_clustering")
        before = method.alternative.centroids.clone()
        method.loss(batch_for(method), PROGRESS)
        assert torch.equal(method.alternative.centroids, before)
        method.after_step(PROGRESS)
        after = method.alternative.centroids
        assert not torch.equal(after, before)
        torch.testing.assert_close(after.norm(dim=1), torch.ones(len(after)))

    def test_a_teacher_without_a_head_is_explained(self):
        from helpers.rows import options

        headless = methods.MethodContext(8, 64, (), (methods.FeatureDims(12, None),))
        with pytest.raises(ValueError, match=r"method.teacher=features"):
            methods.build(options("seed"), headless, seed=0)
        assert methods.build(options("seed", teacher="features"), headless, seed=0).queue.rows.shape == (16, 12)


class TestCompRess:
    def test_the_students_queue_takes_the_momentum_copy(self):
        method = make("compress_2q", head="linear")
        batch = batch_for(method)
        method.loss(batch, PROGRESS)
        kept = method._rows[1]
        method.after_step(PROGRESS)
        assert torch.equal(method.student_queue.rows[-6:], kept)
        assert not any(p.requires_grad for p in method.momentum_backbone.parameters())

    def test_queues_start_uniform_within_their_bound(self):
        rows = make("compress_1q").teacher_queue.rows
        bound = (3 / rows.shape[1]) ** 0.5
        assert rows.abs().max() <= bound
        assert rows.abs().max() > 0.9 * bound

    def test_one_queue_needs_a_head(self):
        from raydistill.config import ConfigError

        with pytest.raises(ConfigError, match="linear or mlp4"):
            make("compress_1q", head="none")

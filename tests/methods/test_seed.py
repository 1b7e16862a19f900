"""SEED: when the queue takes the batch, the views of its strategies, and its alternatives."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import references
from helpers.references import PROGRESS, assert_a_queue_longer_than_the_data_is_refused
from helpers.rows import batch_for, given, make, options

from raydistill import methods
from raydistill.models.vit import class_tokens


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
        assert [v[:2] for v in views["same"]] == [("moco2", 0)]
        assert [v[:2] for v in views["cross"]] == [("moco2", 0), ("moco2", 1)]
        small = [("moco2", 0), ("swav_small", 0), ("swav_small", 1)]
        assert [v[:2] for v in views["large_small_cross"]] == small
        assert [v[:2] for v in views["large_small"]] == small

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
        counts = (1, 3, 4, 8)
        method = methods.build(options("seed", loss="kmeans"), given(class_counts=counts), seed=0)
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

    def test_the_head_is_an_encoder_too(self):
        method, images = make("seed").eval(), torch.randn(3, 3, 8, 8)
        encoders = method.encoders()
        assert list(encoders) == ["student", "head"]
        assert encoders["head"].dim == given().teachers[0].head
        assert torch.equal(encoders["head"](images), method.projector(method.backbone(images)))

    def test_a_vit_is_an_encoder_after_every_block(self):
        method, images = make("seed", backbone="vit_w32_p4_d3").eval(), torch.randn(2, 3, 8, 8)
        encoders = method.encoders()
        assert list(encoders) == ["student", "head", "block_1", "block_2"]
        tokens = class_tokens(method.backbone.net, images)
        for name, token in zip(["block_1", "block_2", "student"], tokens, strict=True):
            torch.testing.assert_close(encoders[name](images), token)

    def test_a_teacher_without_a_head_is_explained(self):
        headless = methods.MethodContext(8, 64, (), (methods.FeatureDims(12, None),))
        with pytest.raises(ValueError, match=r"method.teacher=features"):
            methods.build(options("seed"), headless, seed=0)
        assert methods.build(options("seed", teacher="features"), headless, seed=0).queue.rows.shape == (16, 12)


def test_a_copied_method_goes_on_by_itself():
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
def test_a_queue_longer_than_the_data_is_refused():
    assert_a_queue_longer_than_the_data_is_refused("seed", "queue_size")


def numbers(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.fault(18)
@pytest.mark.parametrize("loss", ["seed", "l2", "kmeans", "online_clustering", "binary_contrastive", "seed_moco", "a5"])
def test_every_alternative_is_its_printed_loss(loss):
    method = make("seed", loss=loss, tau_t=0.1, lambda_a=2.0, lambda_b=3.0)
    batch = batch_for(method)
    features = method.backbone(batch.views[method.large])
    student, queue = numbers(method.projector(features)), numbers(method.queue.rows)
    teacher = numbers(batch.teachers[0](method.large, "head"))
    own = references.seed(student, teacher, queue, 0.2, 0.1, True)
    near = references.normalized_regression(student, teacher)
    expected = {
        "seed": lambda: own,
        "l2": lambda: near,
        "kmeans": lambda: references.cross_entropy(numbers(method.alternative.classifier(features)), batch.labels),
        "online_clustering": lambda: nearest_centroid(student, teacher, numbers(method.alternative.centroids)),
        "binary_contrastive": lambda: references.binary_contrastive(student, teacher, queue, 0.2, 64),
        "seed_moco": lambda: own + own_moco(method, batch, student),
        "a5": lambda: 2 * near + 3 * references.seed(student, teacher, queue, 0.2, 0.1, False),
    }[loss]()
    assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.fault(18)
def test_the_normalizer_of_the_binary_contrastive_loss_is_that_of_crds_code():
    method = make("seed", loss="binary_contrastive", normalizer="first_batch")
    normalizers = []
    for seed in range(2):
        batch = batch_for(method, seed=seed)
        student = references.unit(numbers(method.projector(method.backbone(batch.views[method.large]))))
        teacher = references.unit(numbers(batch.teachers[0](method.large, "head")))
        queue = numbers(method.queue.rows)
        own = (student * teacher).sum(1, keepdims=True)
        scores = np.exp(np.concatenate([own, student @ queue.T], 1) / 0.2)
        normalizers.append(scores.mean() * 64)
        found = method.loss(batch, PROGRESS)["loss"].item()
        assert found == pytest.approx(references.crd_given_z(scores, normalizers[0], 64), rel=1e-5)
        method.after_step(PROGRESS)


def nearest_centroid(student, teacher, centroids):
    assigned = (references.unit(teacher) @ centroids.T).argmax(1)
    return references.cross_entropy(references.unit(student) @ centroids.T / 0.2, assigned)


def own_moco(method, batch, student):
    keys = numbers(method.key_projector(method.key_backbone(batch.views[method.key_view])))
    return references.moco(student, keys, numbers(method.moco_queue.rows), 0.2)

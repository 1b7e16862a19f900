"""SimReg, Regress, Regress-BN and supervised distillation: losses, heads, views, and where gradients go."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rows import CLASSES, EVAL, SIZE, TEACHERS, batch_for, make, options
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raydistill import methods
from raydistill.data.augment import View
from raydistill.losses.regression import (
    cross_entropy,
    normalized_regression,
    raw_regression,
    soft_cross_entropy_kl,
)
from raydistill.methods import FeatureDims, StepInfo
from raydistill.models.regression_head import first_layers, regression_head

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRESS = StepInfo(0, 10)


def rows(seed, n=5, d=4, count=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(count)]


def reference_normalized(prediction, target):
    """Term by term: the squared distance of the two unit vectors of each row, then the mean over rows."""
    total = 0.0
    for p, t in zip(prediction, target, strict=True):
        p, t = p / np.sqrt(sum(x * x for x in p)), t / np.sqrt(sum(x * x for x in t))
        total += sum((a - b) ** 2 for a, b in zip(p, t, strict=True))
    return total / len(prediction)


def reference_raw(prediction, target):
    differences = [(a - b) ** 2 for p, t in zip(prediction, target, strict=True) for a, b in zip(p, t, strict=True)]
    return sum(differences) / len(differences)


def softmax(row):
    e = [np.exp(x) for x in row]
    return [x / sum(e) for x in e]


def reference_kd(teacher, student, tau):
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        p, q = softmax(t / tau), softmax(s / tau)
        total += sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total / len(teacher)


def reference_ce(logits, labels):
    return -sum(np.log(softmax(row)[label]) for row, label in zip(logits, labels, strict=True)) / len(logits)


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
        ("loss", "reference"), [(normalized_regression, reference_normalized), (raw_regression, reference_raw)]
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
        expected = reference_kd(t.numpy(), s.numpy(), tau)
        assert soft_cross_entropy_kl(t.to(dtype), s.to(dtype), tau).item() == pytest.approx(expected, rel=tolerance)
        expected = reference_ce(s.numpy(), labels)
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


def widths(head):
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def letters(head):
    return "".join({nn.Linear: "L", nn.BatchNorm1d: "B", nn.ReLU: "R"}[type(layer)] for layer in head)


class TestHead:
    @pytest.mark.parametrize(
        ("depth", "expected"),
        [(1, [8, 5]), (2, [8, 16, 5]), (4, [8, 16, 8, 16, 5]), (6, [8, 16, 8, 16, 8, 16, 5])],
    )
    def test_widths_alternate(self, depth, expected):
        assert widths(regression_head(8, 5, depth=depth)) == expected

    def test_width_multiplies_the_odd_hidden_layers(self):
        assert widths(regression_head(8, 5, width=0.5)) == [8, 4, 8, 4, 5]
        assert widths(regression_head(2, 5, width=0.1)) == [2, 1, 2, 1, 5]

    def test_all_hidden_layers_as_wide_as_the_output(self):
        assert widths(regression_head(8, 5, hidden="output")) == [8, 5, 5, 5, 5]

    @pytest.mark.parametrize(
        ("depth", "pattern", "expected"),
        [
            (1, "all_hidden", "L"),
            (2, "all_hidden", "LBRL"),
            (4, "all_hidden", "LBRLBRLBRL"),
            (2, "every_other", "LBRL"),
            (4, "every_other", "LBRLLBRL"),
            (3, "every_other", "LBRLL"),
        ],
    )
    def test_batch_norm_and_relu(self, depth, pattern, expected):
        assert letters(regression_head(8, 5, depth=depth, bn_relu=pattern)) == expected

    @pytest.mark.parametrize(("count", "expected"), [(1, "LBR"), (2, "LBRL"), (3, "LBRLLBR"), (4, "LBRLLBRL")])
    def test_first_layers_take_along_what_follows_them(self, count, expected):
        head = regression_head(8, 5, bn_relu="every_other")
        assert letters(first_layers(head, count)) == expected
        assert first_layers(head, count)[0] is head[0]

    def test_more_layers_than_there_are(self):
        with pytest.raises(ValueError, match="5 layers of a head with 4"):
            first_layers(regression_head(8, 5), 5)


class TestSimReg:
    @pytest.mark.parametrize(
        ("choice", "declared", "shown"),
        [
            ("same", {View("moco2", 0)}, View("moco2", 0)),
            ("different", {View("moco2", 0), View("weak", 1)}, View("weak", 1)),
            ("eval", {View("moco2", 0)}, EVAL),
        ],
    )
    def test_what_the_teacher_sees(self, choice, declared, shown):
        method = make("simreg", views=choice, student_recipe="moco2", teacher_recipe="weak").eval()
        batch = batch_for(method)
        assert set(method.views) == declared
        prediction = method.heads[0](method.backbone(batch.views[View("moco2", 0)])).detach().double().numpy()
        expected = reference_normalized(prediction, batch.teachers[0](shown, "features").double().numpy())
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("output", ["features", "head"])
    def test_head_is_as_wide_as_what_it_predicts(self, output):
        assert widths(make("simreg", teacher=output).heads[0])[-1] == getattr(TEACHERS[0], output)

    def test_without_normalisation_lengths_matter(self):
        method = make("simreg", normalize=False).eval()
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.heads[0](method.backbone(batch.views[view])).detach().double().numpy()
        expected = reference_raw(prediction, batch.teachers[0](view, "features").double().numpy())
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)

    def test_several_teachers_have_a_head_each_and_the_mean_of_the_losses(self):
        method = make("simreg", teachers=2)
        terms = method.loss(batch_for(method, teachers=2), PROGRESS)
        assert [widths(head)[-1] for head in method.heads] == [12, 10]
        assert terms["loss"].item() == pytest.approx((terms["teacher_1"] + terms["teacher_2"]).item() / 2)
        assert terms["teacher_1"].item() != terms["teacher_2"].item()

    def test_equal_teachers_are_as_one(self):
        one = make("simreg")
        three = methods.build(options("simreg"), methods.MethodContext(SIZE, teachers=TEACHERS[:1] * 3), seed=1)
        three.backbone.load_state_dict(one.backbone.state_dict())
        for head in three.heads:
            head.load_state_dict(one.heads[0].state_dict())
        batch = batch_for(one)
        tripled = methods.Batch(batch.views, batch.indices, teachers=list(batch.teachers) * 3)
        assert three.loss(tripled, PROGRESS)["loss"].item() == pytest.approx(
            one.loss(batch, PROGRESS)["loss"].item(), rel=1e-6
        )

    @pytest.mark.parametrize(("layer", "dim"), [(0, 32), (1, 64), (2, 32), (3, 64), (4, 12)])
    def test_inference_after_some_layers_of_the_head(self, layer, dim):
        method = make("simreg", inference_layer=layer).eval()
        encoder = method.encoders()["student"].eval()
        images = torch.randn(3, 3, SIZE, SIZE)
        expected = first_layers(method.heads[0], layer)(method.backbone(images))
        assert encoder.dim == dim
        assert torch.equal(encoder(images), expected)

    def test_a_layer_that_the_head_lacks(self):
        with pytest.raises(ValueError, match="inference_layer = 3"):
            options("simreg", head_depth=2, inference_layer=3)


class TestRegress:
    def test_mean_squared_error_of_raw_features(self):
        method = make("regress").eval()
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
        expected = reference_raw(prediction, batch.teachers[0](view, "features").double().numpy())
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)

    def test_batch_norm_standardises_both_sides_over_the_batch(self):
        method = make("regress_bn")
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.projection(method.backbone(batch.views[view])).detach().double().numpy()
        target = batch.teachers[0](view, "features").double().numpy()
        standard = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (prediction, target)]
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(reference_raw(*standard), rel=1e-4)

    def test_statistics_of_the_batch_norms_are_state_and_not_weights(self):
        method = make("regress_bn")
        before = {name: value.clone() for name, value in method.state_dict().items() if "_norm.running" in name}
        method.loss(batch_for(method), PROGRESS)
        now = method.state_dict()
        assert len(before) == 4
        assert all(not torch.equal(value, now[name]) for name, value in before.items())
        assert not [name for name, _ in method.named_parameters() if "_norm." in name]
        assert not any("_norm" in name for name in make("regress").state_dict())


class TestSupervised:
    def terms(self, **changes):
        method = make("supervised_kd", **changes)
        return method, method.loss(batch_for(method), PROGRESS)

    def test_sum_of_the_terms(self):
        _, terms = self.terms(lambda_ce=0.3)
        expected = 0.3 * terms["ce"] + 0.7 * terms["kd"] + terms["teacher_ce"]
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)

    def test_terms_against_references(self):
        method = make("supervised_kd", tau=2.0).eval()
        batch = batch_for(method)
        (view,) = method.views
        student = method.classifier(method.backbone(batch.views[view])).detach().double().numpy()
        teacher = method.teacher_classifier(batch.teachers[0](view, "features")).detach().double().numpy()
        terms = method.loss(batch, PROGRESS)
        assert student.shape[1] == CLASSES
        assert terms["ce"].item() == pytest.approx(reference_ce(student, batch.labels), rel=1e-5)
        assert terms["teacher_ce"].item() == pytest.approx(reference_ce(teacher, batch.labels), rel=1e-5)
        assert terms["kd"].item() == pytest.approx(reference_kd(teacher, student, 2.0), rel=1e-5)

    def test_the_two_classifiers_do_not_train_each_other(self):
        method, terms = self.terms()
        own = set(method.teacher_classifier.parameters())
        others = [p for p in method.parameters() if p not in own]
        terms["teacher_ce"].backward(retain_graph=True)
        assert all(p.grad is None for p in others)
        method.zero_grad()
        (terms["ce"] + terms["kd"]).backward()
        assert all(p.grad is None for p in own)
        assert all(p.grad is not None for p in others)

    def test_a_single_class(self):
        lonely = methods.MethodContext(SIZE, 16, (16,), (FeatureDims(12, None),))
        with pytest.raises(ValueError, match="at least 2"):
            methods.build(options("supervised_kd"), lonely, seed=0)


@pytest.mark.parametrize("name", ["simreg", "regress", "regress_bn", "supervised_kd"])
def test_a_teacher_without_a_head(name):
    only_features = methods.MethodContext(SIZE, 16, (8, 8), (FeatureDims(12, None),))
    with pytest.raises(ValueError, match="no head"):
        methods.build(options(name, teacher="head"), only_features, seed=0)

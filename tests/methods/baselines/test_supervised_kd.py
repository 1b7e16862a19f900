"""Supervised distillation: its terms, and which of them trains which classifier."""

import pytest
from helpers import references
from helpers.references import PROGRESS, assert_a_teacher_without_a_head_is_refused
from helpers.rows import CLASSES, SIZE, batch_for, make, options

from raydistill import methods
from raydistill.methods import FeatureDims


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
        assert terms["ce"].item() == pytest.approx(references.cross_entropy(student, batch.labels), rel=1e-5)
        assert terms["teacher_ce"].item() == pytest.approx(references.cross_entropy(teacher, batch.labels), rel=1e-5)
        assert terms["kd"].item() == pytest.approx(references.distillation(teacher, student, 2.0), rel=1e-5)

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


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("supervised_kd")

"""SimReg: what the teacher sees, several teachers, and inference after some layers of the head."""

import pytest
import torch
from helpers import references
from helpers.references import PROGRESS, assert_a_teacher_without_a_head_is_refused, widths
from helpers.rows import EVAL, SIZE, TEACHERS, batch_for, make, options

from raydistill import methods
from raydistill.data.views.augment import View
from raydistill.models.regression_head import first_layers


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
        expected = references.normalized_regression(prediction, batch.teachers[0](shown, "features").double().numpy())
        assert method.loss(batch, PROGRESS)["loss"].item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("output", ["features", "head"])
    def test_head_is_as_wide_as_what_it_predicts(self, output):
        assert widths(make("simreg", teacher=output).heads[0])[-1] == getattr(TEACHERS[0], output)

    def test_without_normalisation_lengths_matter(self):
        method = make("simreg", normalize=False).eval()
        batch = batch_for(method)
        (view,) = method.views
        prediction = method.heads[0](method.backbone(batch.views[view])).detach().double().numpy()
        expected = references.raw_regression(prediction, batch.teachers[0](view, "features").double().numpy())
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


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("simreg")

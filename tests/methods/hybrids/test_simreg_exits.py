"""SimReg with SSSD's exits: SimReg where the exits weigh nothing, the printed loss elsewhere, and the encoders."""

import numpy as np
import pytest
import torch
from helpers import references
from helpers.references import PROGRESS, assert_a_teacher_without_a_head_is_refused, stepped, widths
from helpers.rows import EVAL, TEACHERS, batch_for, make, options

from raydistill.data.views.augment import View
from raydistill.models.regression_head import first_layers

SIMREG = {
    "as published": {},
    "different views": {"views": "different", "student_recipe": "moco2"},
    "plain images": {"views": "eval"},
    "raw": {"normalize": False, "head_depth": 2},
    "layers that stay": {"inference_layer": 2, "head_hidden": "output", "bn_relu": "every_other"},
}


def numbers(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("changes", SIMREG.values(), ids=SIMREG)
def test_without_exits_it_is_simreg_to_the_last_bit(changes, teachers):
    """Losses and weights of three steps, the pairs that give the error, and the student."""
    chosen = {"seed": 3, "teachers": teachers, **changes}
    if teachers == 2:
        chosen["teacher"] = "features"
    method, simreg = make("simreg_exits", alpha=1.0, lambda_features=0.0, **chosen), make("simreg", **chosen)
    assert method.views == simreg.views
    for step in range(3):
        batch = batch_for(method, seed=step, teachers=teachers)
        terms, expected = method.loss(batch, PROGRESS), simreg.loss(batch, PROGRESS)
        assert {name: terms[name].item() for name in expected} == {name: v.item() for name, v in expected.items()}
        stepped(method, batch)
        stepped(simreg, batch)
    pairs = {name.replace("backbone.", "network.backbone.", 1): value for name, value in simreg.state_dict().items()}
    state = method.state_dict()
    assert {name for name in state if not name.startswith(("exit_heads.", "network.exits."))} == set(pairs)
    assert [name for name, value in pairs.items() if not torch.equal(state[name], value)] == []
    images, outputs = torch.randn(4, 3, 8, 8), [torch.randn(4, width.features) for width in TEACHERS[:teachers]]
    both = [each.eval().regression(images, outputs) for each in (method, simreg)]
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(*both, strict=True))
    students = [each.encoders()["student"] for each in (method, simreg)]
    assert students[0].dim == students[1].dim
    assert torch.equal(students[0](images), students[1](images))


@pytest.mark.fault(18)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("form", ["squared", "norm", "sum_where_positive"])
def test_the_whole_loss(normalize, form):
    method = make(
        "simreg_exits", teachers=2, alpha=0.4, lambda_features=0.05, normalize=normalize, feature_distance=form
    ).double()
    batch = batch_for(method, teachers=2)
    (view,) = method.views
    batch = type(batch)(
        {view: batch.views[view].double()}, batch.indices, teachers=[_double(each) for each in batch.teachers]
    )
    features = [numbers(each) for each in method.network(batch.views[view])]
    distance = references.normalized_regression if normalize else references.raw_regression
    exits = []
    for heads, feature in zip([*method.exit_heads, method.heads], features, strict=True):
        predictions = [references.head(head, feature) for head in heads]
        targets = [numbers(teacher(view, "features")) for teacher in batch.teachers]
        exits.append(np.mean([distance(p, t) for p, t in zip(predictions, targets, strict=True)]))
    gaps = [_distance(feature, features[3], form) for feature in features[:3]]
    terms = method.loss(batch, PROGRESS)
    for i in range(3):
        assert terms[f"feature_{i + 1}"].item() == pytest.approx(gaps[i], rel=1e-10)
    for i in range(4):
        assert terms[f"regression_{i + 1}"].item() == pytest.approx(exits[i], rel=1e-10)
    expected = exits[3] + 0.6 * sum(exits[:3]) + 0.05 * sum(gaps)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-10)


def _double(teacher):
    return lambda view, output: teacher(view, output).double()


def _distance(shallow, deepest, form):
    """One entry after the other."""
    total = 0.0
    for a, b in zip(shallow.flatten(), deepest.flatten(), strict=True):
        if form != "sum_where_positive" or a > 0 or b > 0:
            total += (a - b) ** 2
    return {"squared": total / len(shallow), "norm": np.sqrt(total), "sum_where_positive": total}[form]


def test_shallow_exits_and_distances_teach_the_stages_that_they_have_and_no_deeper_one():
    for term in ("regression_1", "feature_1"):
        method = make("simreg_exits")
        method.loss(batch_for(method), PROGRESS)[term].backward()
        reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        assert any(name.startswith("network.backbone.net.layer1.") for name in reached), term
        assert any(name.startswith("network.exits.0.") for name in reached), term
        deeper = tuple(f"network.backbone.net.layer{stage}." for stage in (2, 3, 4))
        assert not [name for name in reached if name.startswith((*deeper, "heads.", "network.exits.1."))], term


def test_every_exit_has_a_head_for_each_teacher():
    method = make("simreg_exits", teachers=2)
    every = [*method.exit_heads, method.heads]
    assert [[widths(head)[-1] for head in heads] for heads in every] == [[12, 10]] * 4
    assert len({id(head) for heads in every for head in heads}) == 8


def test_all_exits_look_at_the_same_view_of_the_teacher():
    shown = []
    method = make("simreg_exits", views="different", student_recipe="moco2", teacher_recipe="weak")
    batch = batch_for(method)
    (teacher,) = batch.teachers

    def seen(view, output):
        shown.append((view, output))
        return teacher(view, output)

    method.loss(type(batch)(batch.views, batch.indices, teachers=[seen]), PROGRESS)
    assert shown == [(View("weak", 1), "features")]
    assert make("simreg_exits", views="eval").teacher_view == EVAL


@pytest.mark.parametrize("layer", [0, 2])
def test_encoders_are_the_exits_with_the_layers_that_stay(layer):
    method, images = make("simreg_exits", inference_layer=layer).eval(), torch.randn(2, 3, 8, 8)
    encoders = method.encoders()
    assert list(encoders) == ["student", "exit_1", "exit_2", "exit_3"]
    every = [*method.exit_heads, method.heads]
    for name, heads, feature in zip(
        ["exit_1", "exit_2", "exit_3", "student"], every, method.network(images), strict=True
    ):
        kept = first_layers(heads[0], layer) if layer else torch.nn.Identity()
        torch.testing.assert_close(encoders[name].eval()(images), kept(feature))


def test_losses_of_different_widths_do_not_compare_as_those_of_simreg_do():
    simreg, exits = (set(type(options(name)).comparable_loss) for name in ("simreg", "simreg_exits"))
    assert exits == simreg - {"backbone"} | {"bottleneck"}


def test_a_network_without_stages_is_explained():
    with pytest.raises(ValueError, match="four stages of a ResNet"):
        make("simreg_exits", backbone="vit_w32_p4_d2")


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("simreg_exits")

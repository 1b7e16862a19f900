"""SDSSL's blocks under SEED: SEED where alpha is 0, the printed loss elsewhere, one queue, and the encoders."""

import math

import numpy as np
import pytest
import torch
from helpers import references
from helpers.references import (
    assert_a_queue_longer_than_the_data_is_refused,
    assert_a_teacher_without_a_head_is_refused,
    in_float64,
    stepped,
    widths,
)
from helpers.rows import ROWS, TEACHERS, batch_for, make, options
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.config import ConfigError
from raydistill.methods import StepInfo
from raydistill.models.vit import class_tokens
from raydistill.options import find

HALFWAY = StepInfo(5, 10)
BACKBONE = ROWS["seed_blocks"]["backbone"]
METHOD = make("seed_blocks").eval()  # of the property test, which changes its weight alone
BATCH = batch_for(METHOD)


def arrays(method, tokens):
    """Outputs of the distilled blocks' projectors and of the last one's, as numpy."""
    projectors = [*method.block_projectors, method.projector]
    return [project(token).detach().numpy() for project, token in zip(projectors, tokens, strict=True)]


@pytest.mark.parametrize("strategy", ["same", "cross"])
def test_without_alpha_it_is_seed_to_the_last_bit(strategy):
    """Losses, weights and queue of five steps, from the same weights."""
    method = make("seed_blocks", seed=3, alpha=0.0, strategy=strategy)
    seed = make("seed", seed=3, backbone=BACKBONE, strategy=strategy)
    assert method.views == seed.views
    for step in range(5):
        batch, progress = batch_for(method, seed=step), StepInfo(step, 10)
        assert method.loss(batch, progress)["loss"].item() == seed.loss(batch, progress)["loss"].item()
        stepped(method, batch, progress)
        stepped(seed, batch, progress)
    state, expected = method.state_dict(), seed.state_dict()
    assert {name for name in state if not name.startswith("block_projectors.")} == set(expected)
    assert [name for name, value in expected.items() if not torch.equal(state[name], value)] == []


@pytest.mark.fault(18)
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("layers", "blocks"), [("all", [0, 1, 2]), ("last", [1, 2]), ("first", [0, 2])])
def test_the_whole_loss(own, layers, blocks):
    changes = {"layers": layers, "own_positive": own, "alpha": 0.6, "alpha_schedule": "cosine"}
    method, batch = in_float64("seed_blocks", tau_t=0.1, tau_s=0.3, **changes)
    (view,) = method.views
    tokens = class_tokens(method.backbone.net, batch.views[view])
    teacher, queue = batch.teachers[0](view, "head").numpy(), method.queue.rows.numpy()
    *middle, last = [
        references.seed(student, teacher, queue, 0.3, 0.1, own)
        for student in arrays(method, [tokens[block] for block in blocks])
    ]
    terms = method.loss(batch, StepInfo(3, 10))
    alpha = 0.6 * (1 - math.cos(math.pi * 3 / 10)) / 2
    assert terms["seed"].item() == pytest.approx(last, rel=1e-10)
    assert terms["blocks"].item() == pytest.approx(np.mean(middle), rel=1e-10)
    assert terms["loss"].item() == pytest.approx(last + alpha * np.mean(middle), rel=1e-10)


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 20),
    st.floats(0, 2),
    st.sampled_from(["cosine", "linear", "constant", "step"]),
    st.floats(0, 1),
)
def test_the_blocks_never_weigh_more_than_alpha(step, alpha, schedule, jump):
    METHOD.blocks_options = options("seed_blocks", alpha=alpha, alpha_schedule=schedule, alpha_step=jump)
    terms = {name: term.item() for name, term in METHOD.loss(BATCH, StepInfo(step, 20)).items()}
    share = (terms["loss"] - terms["seed"]) / terms["blocks"]
    assert -1e-5 <= share <= alpha + 1e-5
    assert share == pytest.approx(alpha, abs=1e-5) or (step < 20 and schedule != "constant")


def test_alpha_rises_from_0_so_that_a_longer_run_differs_from_its_start_on():
    assert find("seed_blocks")().alpha_schedule == "cosine"
    method = make("seed_blocks", alpha_schedule="cosine")
    batch = batch_for(method)
    losses = [method.loss(batch, StepInfo(step, 10)) for step in (0, 10)]
    assert losses[0]["loss"].item() == losses[0]["seed"].item()
    assert losses[1]["loss"].item() == pytest.approx((losses[1]["seed"] + 0.8 * losses[1]["blocks"]).item())
    assert options("seed_blocks", alpha_schedule="cosine").follows_length()
    assert not options("seed_blocks", alpha_schedule="constant").follows_length()


def test_the_blocks_loss_reaches_neither_later_blocks_nor_the_last_projector():
    method = make("seed_blocks", layers="first")
    method.loss(batch_for(method), HALFWAY)["blocks"].backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("block_projectors.0.") for name in reached)
    assert any(name.startswith("backbone.net.blocks.0.") for name in reached)
    assert not [n for n in reached if n.startswith(("projector.", "backbone.net.blocks.1.", "backbone.net.blocks.2."))]


def test_all_blocks_share_one_queue_that_takes_the_batch_once():
    method = make("seed_blocks")
    before, batch = method.queue.rows.clone(), batch_for(method)
    method.loss(batch, HALFWAY)
    assert torch.equal(method.queue.rows, before)
    method.after_step(HALFWAY)
    assert torch.equal(method.queue.rows[:-6], before[6:])
    assert [name for name, _ in method.named_buffers() if name.endswith("rows")] == ["queue.rows"]


@pytest.mark.parametrize("output", ["features", "head"])
def test_a_projector_for_each_block_as_wide_as_the_teachers_output(output):
    method = make("seed_blocks", teacher=output)
    expected = [8, getattr(TEACHERS[0], output)]
    assert [widths(each) for each in (*method.block_projectors, method.projector)] == [[32, *expected]] * 3
    assert widths(make("seed_blocks", hidden_dim=None).block_projectors[0]) == [32, 32, TEACHERS[0].head]


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [("all", 1, [0, 1, 2, 3, 4]), ("last", 2, [3, 4]), ("first", 2, [0, 1]), ("every_second", 1, [0, 2, 4])],
)
def test_which_blocks_learn(layers, count, expected):
    method = make("seed_blocks", backbone="vit_w32_p4_d6", layers=layers, layer_count=count)
    assert method.blocks == [*expected, 5]
    assert len(method.block_projectors) == len(expected)


def test_encoders_are_those_of_seed_on_the_same_vit():
    method, seed = make("seed_blocks"), make("seed", backbone=BACKBONE)
    images = torch.randn(2, 3, 8, 8)
    encoders = method.eval().encoders()
    assert list(encoders) == list(seed.encoders()) == ["student", "head", "block_1", "block_2"]
    tokens = class_tokens(method.backbone.net, images)
    for name, token in zip(["block_1", "block_2", "student"], tokens, strict=True):
        torch.testing.assert_close(encoders[name](images), token)
    assert method.head() is method.projector


def test_seed_with_the_same_settings_is_found_for_every_option_of_both():
    chosen = options("seed_blocks", tau_t=0.5, tau_s=0.7, queue_size=9, strategy="cross", teacher="features")
    seed = chosen.without_blocks()
    shared = set(type(seed).model_fields) & set(type(chosen).model_fields) - {"name"}
    assert {"tau_t", "tau_s", "queue_size", "hidden_dim", "own_positive", "strategy", "recipe", "stem"} <= shared
    assert {name: getattr(seed, name) for name in shared} == {name: getattr(chosen, name) for name in shared}


def test_one_block_and_no_vit_are_explained():
    with pytest.raises(ValueError, match="seed_blocks needs at least two"):
        make("seed_blocks", backbone="vit_w32_p4_d1")
    with pytest.raises(ConfigError, match="no ViT; seed_blocks"):
        make("seed_blocks", backbone="resnet10_w4")


@pytest.mark.fault(17)
def test_a_queue_longer_than_the_data_is_refused():
    assert_a_queue_longer_than_the_data_is_refused("seed_blocks", "queue_size")


def test_a_teacher_without_a_head():
    assert_a_teacher_without_a_head_is_refused("seed_blocks")

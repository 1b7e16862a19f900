"""What every method must do: the conformance suite. A new method is one row in `rows.py`."""

import copy

import pytest
import torch
from helpers.rows import EVAL, ROWS, SIZE, batch_for, given, make, options

from raydistill import methods
from raydistill.methods import StepInfo
from raydistill.options import METHODS

PROGRESS = StepInfo(5, 10)
CLASSIFIERS = {"sssd", "cc", "clusterfit"}  # they see a teacher through its clusters alone
OF_SEVERAL_TEACHERS = {"simreg", "simreg_exits"}
MAY_BE_NEGATIVE = {"simsiam", "dogo"}


def test_every_method_has_a_row():
    assert set(ROWS) == set(METHODS)


def trained_step(method, batch, progress=PROGRESS):
    """One step as the learner makes it; the loss."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    optimizer.zero_grad()
    terms = method.loss(batch, progress)
    terms["loss"].backward()
    optimizer.step()
    method.after_step(progress)
    return terms["loss"].item()


EXPORTED = {}


def exported_like(encoder, images):
    """The program of the first encoder with this one's modules: an export takes seconds, and methods share networks."""
    architecture = f"{type(encoder).__module__} {encoder}"
    if architecture not in EXPORTED:
        EXPORTED[architecture] = torch.export.export(encoder, (images,)).module()
    return EXPORTED[architecture]


@pytest.mark.parametrize("name", ROWS)
class TestConformance:
    def test_losses_are_finite_scalars_and_reach_every_weight(self, name):
        method = make(name)
        terms = method.loss(batch_for(method), PROGRESS)
        assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
        assert name in MAY_BE_NEGATIVE or terms["loss"] >= 0
        terms["loss"].backward()
        missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == []
        assert all(p.grad is None for p in method.parameters() if not p.requires_grad)

    def test_the_student_gets_a_gradient(self, name):
        method = make(name)
        method.loss(batch_for(method), PROGRESS)["loss"].backward()
        trainable = [p for p in method.parameters() if p.requires_grad]
        assert sum(p.grad.abs().sum() for p in trainable) > 0

    def test_same_seed_same_weights_whatever_the_callers_state(self, name):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first = make(name, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(77)
        second, third = make(name, seed=3), make(name, seed=4)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))

    def test_the_same_draws_give_the_same_loss(self, name):
        losses = []
        for _ in range(2):
            method = make(name)
            torch.manual_seed(1)
            losses.append([trained_step(method, batch_for(method, seed=i)) for i in range(3)])
        assert losses[0] == losses[1]

    def test_state_round_trip_continues_the_same_training(self, name):
        method, other = make(name, seed=0), make(name, seed=1)
        torch.manual_seed(1)
        trained_step(method, batch_for(method))
        other.load_state_dict(copy.deepcopy(method.state_dict()))
        after = []
        for one in (method, other):
            torch.manual_seed(2)
            after.append([trained_step(one, batch_for(one, seed=i), StepInfo(6 + i, 10)) for i in range(1, 3)])
        assert after[0] == after[1]

    def test_the_loss_moves_no_queue_and_no_momentum_encoder(self, name):
        method = make(name)
        kept = {n: p.clone() for n, p in method.named_parameters()}
        kept |= {n: b.clone() for n, b in method.named_buffers() if "running" not in n and "num_batches" not in n}
        method.loss(batch_for(method), PROGRESS)["loss"].backward()
        now = dict(method.named_parameters()) | dict(method.named_buffers())
        assert [n for n, value in kept.items() if not torch.equal(value, now[n])] == []

    def test_after_step_moves_no_weight_that_gradients_move(self, name):
        method = make(name)
        before = [p.detach().clone() for p in method.parameters() if p.requires_grad]
        method.loss(batch_for(method), PROGRESS)
        method.after_step(PROGRESS)
        after = [p for p in method.parameters() if p.requires_grad]
        assert all(torch.equal(a, p) for a, p in zip(before, after, strict=True))

    def test_after_step_without_a_loss_is_harmless(self, name):
        method = make(name)
        method.after_step(PROGRESS)
        assert torch.isfinite(method.loss(batch_for(method), PROGRESS)["loss"])

    def test_rows_of_all_workers_enter_the_loss(self, name):
        """Batch norm aside, a worker whose gather brings the other half of a batch has the whole batch's loss."""
        method = make(name).eval()
        whole = batch_for(method)
        gathered = []
        torch.manual_seed(3)
        method.loss(batch_for(method, gather=lambda rows: gathered.append(len(rows)) or rows), PROGRESS)
        assert gathered, "the loss looks at its own rows only"
        assert len(whole.indices) in gathered

    def test_the_student_is_an_encoder_of_images(self, name):
        encoders = make(name).encoders()
        assert next(iter(encoders)) == "student"
        for encoder in encoders.values():
            assert encoder.eval()(torch.randn(2, 3, SIZE, SIZE)).shape == (2, encoder.dim)

    def test_the_student_can_be_exported(self, name):
        encoder = make(name).encoders()["student"].eval()
        images = torch.randn(2, 3, SIZE, SIZE)
        exported = exported_like(encoder, images)
        exported.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(exported(images), encoder(images))

    def test_the_baseline_is_another_method_of_the_same_student(self, name):
        baseline = options(name).baseline()
        student = methods.build(baseline, given(), seed=0).encoders()["student"]
        assert student.dim == make(name).encoders()["student"].dim
        assert baseline.baseline() == baseline

    def test_views_are_declared_once_and_the_plain_one_is_free(self, name):
        views = make(name).views
        assert len(set(views)) == len(views) > 0
        assert EVAL not in views

    def test_a_missing_teacher_and_one_too_many_are_named(self, name):
        if options(name).teacher_output() is None or name in CLASSIFIERS:
            pytest.skip("takes no embeddings of a teacher")
        with pytest.raises(ValueError, match="needs a teacher and none is given"):
            methods.build(options(name), given(teachers=0), seed=0)
        if name not in OF_SEVERAL_TEACHERS:
            with pytest.raises(ValueError, match="takes one teacher and 2 are given"):
                methods.build(options(name, teacher="features"), given(teachers=2), seed=0)

"""Learner, pack, worker: bit-identical in company, alone, resumed and replayed; failures stay their own."""

import math

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.methods import MethodContext
from raydistill.methods.baselines.simclr import SimCLR
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.learner import Learner
from raydistill.training.member import Member
from raydistill.training.messages import Directive
from raydistill.training.pack import Pack
from raydistill.training.schedules import learning_rate
from raydistill.training.single import TrainingError, train
from raydistill.training.teachers import LearnerInputs
from raydistill.training.worker import serve
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
METHODS = {
    "simclr": {"backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8},
    "simsiam": {"backbone": "resnet10_w4", "projection_dim": 16, "predictor_dim": 8},
    "dogo": {"backbones": ["resnet10_w4", "resnet10_w8"], "hidden_dim": 16, "projection_dim": 8},
}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


def settings(name="dogo", epochs=2, data=(), train=(), **options):
    return config.dump(
        config.load(
            {
                "method": {"name": name, **METHODS[name], **options},
                "data": {**DATA, **dict(data)},
                "train": {"epochs": epochs, "lr": 0.01, **dict(train)},
            }
        )
    )


def no_evaluation(*_):
    return {}


def make_pack(dataset, **data):
    return Pack(dataset, DataConfig(**{**DATA, **data}), evaluate=no_evaluation)


def finish(pack, limit=20):
    """Run until no learner is left; the reports by key."""
    reports = {}
    for _ in range(limit):
        if not pack.learners:
            return reports
        for report in pack.run_epoch():
            reports.setdefault(report.key, []).append(report)
    raise AssertionError("the pack did not end")


def alone(dataset, configuration, directory):
    pack = make_pack(dataset)
    assert pack.add(request("alone", configuration, str(directory))) is None
    finish(pack)
    return weights(directory)


class TestInCompany:
    def test_a_trial_beside_three_others_is_bit_identical_to_the_same_trial_alone(self, dataset, tmp_path):
        company = {
            "a": settings("dogo", 3, tau_kd=0.2),
            "b": settings("simsiam", 2),
            "c": settings("dogo", 1, objectives=["simclr", "simsiam"], simsiam_dim=16, predictor_dim=8),
            "d": settings("simclr", 3, train={"seed": 4}),
        }
        pack = make_pack(dataset)
        for key, value in company.items():
            pack.add(request(key, value, str(tmp_path / key)))
        finish(pack)
        for key, value in company.items():
            assert same(weights(tmp_path / key), alone(dataset, value, tmp_path / f"{key}-alone")), key

    def test_a_late_joiner_can_be_replayed_alone_from_its_recorded_offset(self, dataset, tmp_path):
        pack = make_pack(dataset)
        pack.add(request("first", settings("simclr", 4)))
        pack.run_epoch()
        pack.run_epoch()
        pack.add(request("late", settings("dogo", 2), str(tmp_path / "late")))
        finish(pack)
        state = latest_checkpoint(tmp_path / "late")
        assert state["offsets"] == [[0, 2]]
        assert pack.add(request("late", settings("dogo", 2), str(tmp_path / "late"))).offsets == ((0, 2),)
        replay = settings("dogo", 2, train={"offsets": state["offsets"]})
        assert same(weights(tmp_path / "late"), alone(dataset, replay, tmp_path / "replayed"))
        assert not same(weights(tmp_path / "late"), alone(dataset, settings("dogo", 2), tmp_path / "other"))

    def test_one_that_began_on_time_and_came_back_later_is_replayed_epoch_by_epoch(self, dataset, tmp_path):
        pack = make_pack(dataset)
        pack.add(request("first", settings("simclr", 6)))
        pack.add(request("x", settings("dogo", 4), str(tmp_path / "x")))
        pack.run_epoch()
        pack.run_epoch()
        pack.remove("x")
        pack.run_epoch()
        pack.run_epoch()
        pack.add(request("x", settings("dogo", 4), str(tmp_path / "x")))
        finish(pack)
        self.is_replayed(dataset, tmp_path, [[0, 0], [2, 2]])

    def test_one_that_went_over_to_a_pack_that_was_behind_is_replayed_too(self, dataset, tmp_path):
        ahead, behind = make_pack(dataset), make_pack(dataset)
        ahead.add(request("x", settings("dogo", 4), str(tmp_path / "x")))
        for _ in range(3):
            ahead.run_epoch()
        behind.add(request("other", settings("simclr", 3)))
        behind.run_epoch()
        behind.add(request("x", settings("dogo", 4), str(tmp_path / "x")))
        finish(behind)
        self.is_replayed(dataset, tmp_path, [[0, 0], [3, -2]])

    def test_what_is_replayed_longer_than_it_was_trained_goes_on(self, dataset, tmp_path):
        pack = make_pack(dataset)
        replay = settings("dogo", 3, train={"offsets": [[0, 0], [1, 2]]})
        pack.add(request("x", replay, str(tmp_path / "x")))
        assert [r.epoch for r in finish(pack)["x"]] == [1, 2, 3]
        assert latest_checkpoint(tmp_path / "x")["offsets"] == [[0, 0], [1, 2]]

    def test_replays_of_different_epochs_take_turns(self, dataset, tmp_path):
        values = {key: settings("dogo", 2, train={"offsets": [[0, first]]}) for key, first in (("a", 1), ("b", 3))}
        pack = make_pack(dataset)
        for key, value in values.items():
            pack.add(request(key, value, str(tmp_path / key)))
        finish(pack)
        assert latest_checkpoint(tmp_path / "b")["offsets"] == [[0, 3]]
        assert same(weights(tmp_path / "b"), alone(dataset, values["b"], tmp_path / "alone"))

    def is_replayed(self, dataset, folder, offsets):
        """Alone, at once and resumed half way, it becomes what it became in the pack."""
        assert latest_checkpoint(folder / "x")["offsets"] == offsets
        replay = settings("dogo", 4, train={"offsets": offsets})
        assert same(weights(folder / "x"), alone(dataset, replay, folder / "replayed"))
        cut = make_pack(dataset)
        cut.add(request("x", replay, str(folder / "cut")))
        cut.run_epoch()
        assert same(weights(folder / "x"), alone(dataset, replay, folder / "cut"))
        assert latest_checkpoint(folder / "cut")["offsets"] == offsets

    @pytest.mark.fault(1)
    @pytest.mark.parametrize("term", ["ssl_1", "loss"])
    def test_a_nan_ends_that_learner_before_its_update_and_no_other(self, dataset, tmp_path, monkeypatch, term):
        pack = make_pack(dataset)
        pack.add(request("good", settings("simclr", 2), str(tmp_path / "good")))
        pack.add(request("bad", settings("dogo", 2), str(tmp_path / "bad")))
        bad = pack.learners["bad"]
        honest = bad.method.loss
        steps = []

        def poisoned(batch, progress):
            terms = honest(batch, progress)
            steps.append([p.detach().clone() for p in bad.parameters])
            if len(steps) == 2:
                terms[term] = terms[term] * math.nan
                terms["loss"] = terms["loss"] * math.nan
            return terms

        monkeypatch.setattr(bad.method, "loss", poisoned)
        reports = finish(pack)
        (failed,) = reports["bad"]
        assert f"{term} = nan" in failed.error
        assert "epoch 0, step 1" in failed.error
        assert len(steps) == 2
        assert all(torch.equal(a, b) for a, b in zip(steps[-1], bad.parameters, strict=True))
        assert [r.error for r in reports["good"]] == ["", ""]
        assert same(weights(tmp_path / "good"), alone(dataset, settings("simclr", 2), tmp_path / "alone"))

    def test_an_infinite_gradient_is_named_too(self, dataset, monkeypatch):
        pack = make_pack(dataset)
        pack.add(request("bad", settings("simclr", 1)))
        honest = pack.learners["bad"].method.loss

        def steep(batch, progress):
            loss = honest(batch, progress)["loss"]
            return {"loss": loss.detach() + (loss - loss.detach()).abs().sqrt()}

        monkeypatch.setattr(pack.learners["bad"].method, "loss", steep)
        (report,) = pack.run_epoch()
        assert "gradient is not finite" in report.error

    def test_a_learner_that_cannot_be_built_is_reported(self, dataset):
        pack = make_pack(dataset)
        report = pack.add(request("x", settings("simclr", 1, backbone="resnet81")))
        assert "resnet81" in report.error
        assert pack.learners == {}


class TestResume:
    @pytest.mark.fault(3)
    def test_resumed_is_bit_identical_to_uninterrupted(self, dataset, tmp_path):
        value = settings("dogo", 3, train={"schedule": "cosine", "warmup_epochs": 1, "optimizer": "sgd"})
        pack = make_pack(dataset)
        pack.add(request("x", value, str(tmp_path / "cut")))
        pack.run_epoch()
        again = make_pack(dataset)
        assert again.add(request("x", value, str(tmp_path / "cut"))) is None
        finish(again)
        assert same(weights(tmp_path / "cut"), alone(dataset, value, tmp_path / "whole"))

    def test_neighbours_killed_between_their_checkpoints_meet_again_on_the_same_stream(self, dataset, tmp_path):
        """One had written the checkpoint of epoch 2, the other had not: the first waits."""
        values = {"a": settings("simclr", 3), "b": settings("dogo", 3)}
        pack = make_pack(dataset)
        for key, value in values.items():
            pack.add(request(key, value, str(tmp_path / key)))
        pack.run_epoch()
        pack.remove("b")
        pack.run_epoch()
        again = make_pack(dataset)
        for key, value in values.items():
            again.add(request(key, value, str(tmp_path / key)))
        assert [report.key for report in again.run_epoch()] == ["b"]
        finish(again)
        for key, value in values.items():
            assert same(weights(tmp_path / key), alone(dataset, value, tmp_path / f"{key}-alone")), key

    def test_a_finished_learner_reports_its_last_metrics_at_once(self, dataset, tmp_path):
        value = settings("simclr", 1)
        pack = make_pack(dataset)
        pack.add(request("x", value, str(tmp_path)))
        (report,) = pack.run_epoch()
        again = make_pack(dataset).add(request("x", value, str(tmp_path)))
        assert again.done
        assert again.metrics == report.metrics


class TestLearner:
    def test_draws_inside_a_step_are_the_learners_own(self, dataset, monkeypatch):
        drawn = []
        honest = SimCLR.loss

        def noisy(self, batch, progress):
            drawn.append(torch.rand(1).item())
            return honest(self, batch, progress)

        monkeypatch.setattr(SimCLR, "loss", noisy)
        outside = torch.get_rng_state()
        for order in (("x",), ("y", "x"), ("x", "y")):
            pack = make_pack(dataset)
            for key in order:
                pack.add(request(key, settings("simclr", 1, train={"seed": ord(key)})))
            drawn.append(order)
            pack.run_epoch()
        assert torch.equal(torch.get_rng_state(), outside)
        steps = 3
        x = drawn[1 : 1 + steps]
        interleaved = drawn[drawn.index(("y", "x")) + 1 : drawn.index(("x", "y"))]
        assert interleaved[1::2] == x
        assert drawn[drawn.index(("x", "y")) + 1 :: 2] == x
        assert len(set(interleaved)) == 2 * steps

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lars"])
    def test_learns(self, dataset, optimizer):
        reports = []
        train(
            TrialSpec(config.load(settings("simclr", 8, train={"optimizer": optimizer, "lr": 0.03}))),
            None,
            evaluate=no_evaluation,
            on_epoch=reports.append,
        )
        assert reports[-1].metrics["loss"] < reports[0].metrics["loss"]

    def test_clipping_bounds_the_gradient(self, dataset, monkeypatch):
        learner = Learner(
            config.load(settings("simclr", 1, train={"clip_norm": 1e-3})),
            LearnerInputs(MethodContext(8)),
            steps_per_epoch=3,
        )
        pack = make_pack(dataset)
        pack.members["x"] = Member("x", [learner])
        pack.run_epoch()
        norm = torch.nn.utils.get_total_norm([p.grad for p in learner.parameters])
        assert norm.item() == pytest.approx(1e-3, rel=1e-3)

    def test_bf16_autocast_trains_with_float32_weights(self, dataset):
        report = train(
            TrialSpec(config.load(settings("dogo", 1, data={"image_size": 16}, train={"precision": "bf16"}))),
            None,
            evaluate=no_evaluation,
        )
        exact = train(
            TrialSpec(config.load(settings("dogo", 1, data={"image_size": 16}))), None, evaluate=no_evaluation
        )
        assert report.metrics["loss"] != exact.metrics["loss"]
        assert report.metrics["loss"] == pytest.approx(exact.metrics["loss"], rel=0.1)

    def test_schedules(self):
        def rates(**values):
            options = config.TrainConfig(lr=0.1, **values)
            return [learning_rate(options, step=s, total=100, steps_per_epoch=10, batch_size=512) for s in range(100)]

        assert set(rates()) == {0.1}
        assert rates(lr_scaling="linear")[0] == pytest.approx(0.2)
        cosine = rates(schedule="cosine", warmup_epochs=2)
        assert cosine[0] == pytest.approx(0.005)
        assert cosine[19] == cosine[20] == pytest.approx(0.1)
        assert cosine[60] == pytest.approx(0.05)
        assert cosine == sorted(cosine[:20]) + sorted(cosine[20:], reverse=True)

    def test_a_failed_single_run_says_why(self, monkeypatch):
        monkeypatch.setattr(
            SimCLR, "loss", lambda self, batch, progress: {"loss": torch.tensor(math.nan).requires_grad_()}
        )
        with pytest.raises(TrainingError, match="loss = nan"):
            train(TrialSpec(config.load(settings("simclr", 1))), None, evaluate=no_evaluation)


class Script:
    """A control that plays a list of orders."""

    def __init__(self, *orders):
        self.orders, self.reports, self.shares = list(orders), [], []

    def started(self):
        pass

    def tick(self, share):
        self.shares.append(share)

    def failed(self, report):
        raise AssertionError(report)

    def boundary(self, reports, load):
        self.reports.append(reports)
        return self.orders.pop(0)


class TestWorker:
    def test_starts_stops_and_changes_data_between_epochs(self, dataset):
        data, other = DataConfig(**DATA), DataConfig(**{**DATA, "batch_size": 8})
        small = settings("simclr", 2, data={"batch_size": 8})
        control = Script(
            Directive(data, [request("a", settings("simclr", 3)), request("b", settings("simclr", 3))]),
            Directive(data, stop=["a"]),
            Directive(other, [request("c", small)], stop=["b"]),
            Directive(close=True),
        )
        serve(control, evaluate=no_evaluation, load=lambda _: dataset)
        keys = [sorted((r.key, r.epoch) for r in reports) for reports in control.reports]
        assert keys == [[], [("a", 1), ("b", 1)], [("b", 2)], [("c", 1)]]
        assert control.shares[:3] == pytest.approx([1 / 3, 2 / 3, 1])

    @pytest.mark.fault(17)
    def test_a_batch_larger_than_the_data_is_reported_to_its_trial(self, dataset):
        value = settings("simclr", 1, data={"batch_size": 4096})
        control = Script(Directive(DataConfig(**value["data"]), [request("a", value)]), Directive(close=True))
        serve(control, evaluate=no_evaluation, load=lambda _: dataset)
        (report,) = control.reports[1]
        assert "data.batch_size = 4096 is larger than the" in report.error

"""Broker and workers together, without Ray: what fails, fails alone, and trials only wait."""

import asyncio
import threading

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.images import DataError
from raydistill.data.sources import load_dataset
from raydistill.sweep.workers.broker import Broker
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.distributed import Workers
from raydistill.training.failures import LearnerError
from raydistill.training.learner import NonFiniteError
from raydistill.training.messages import Directive
from raydistill.training.pack import Pack
from raydistill.training.worker import serve

DATA = {"limit": 60, "batch_size": 16, "image_size": 8}


def settings(epochs=2, lr=0.01, **data):
    values = {
        "method": {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8},
        "data": {**DATA, **data},
        "train": {"epochs": epochs, "lr": lr},
    }
    return config.dump(config.load(values))


def no_evaluation(*_):
    return {}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


class Line:
    """The workers' line to a broker that lives in this process."""

    def __init__(self, broker, loop):
        self.broker, self.loop, self.fresh, self.orders = broker, loop, True, []

    def boundary(self, reports, load):
        answer = asyncio.run_coroutine_threadsafe(self.broker.boundary("p", reports, load, self.fresh), self.loop)
        self.fresh = False
        self.orders.append(answer.result(60))
        return self.orders[-1]

    def started(self):
        pass

    def tick(self, share):
        pass

    def failed(self, reports):
        asyncio.run_coroutine_threadsafe(self.broker.learners_failed("p", reports), self.loop).result(60)


def play(broker, trials, dataset, folder, seeds=1):
    """Run trials (key: configuration) to their end. Returns: the reports of each, and the orders given."""

    async def life(key, values):
        reports = []
        await broker.join(request(key, values, str(folder / key), seeds=seeds))
        while not reports or not (reports[-1].done or reports[-1].error):
            reports.append(await broker.next(key))
        await broker.leave(key)
        return reports

    async def scenario():
        line = Line(broker, asyncio.get_running_loop())
        await broker.expect(len(trials))
        worker = threading.Thread(
            target=serve, args=(line,), kwargs={"evaluate": no_evaluation, "load": lambda _: dataset}, daemon=True
        )
        worker.start()
        lives = await asyncio.gather(*(life(key, values) for key, values in trials.items()))
        await broker.close()
        await asyncio.to_thread(worker.join, 60)
        return dict(zip(trials, lives, strict=True)), line.orders

    return asyncio.run(asyncio.wait_for(scenario(), 120))


def alone(dataset, values, folder, offsets):
    replay = config.assign(values, {"train.offsets": offsets})
    pack = Pack(dataset, config.load(replay).data, evaluate=no_evaluation)
    pack.add(request("x", replay, str(folder)))
    while pack.learners:
        pack.run_epoch()
    return weights(folder)


@pytest.mark.fault(9)
@pytest.mark.slow
def test_a_learner_that_memory_does_not_hold_beside_others_trains_when_there_is_room(dataset, tmp_path, monkeypatch):
    crowded = []
    add = Pack.add

    def add_hungry(pack, assignment):
        report = add(pack, assignment)
        if assignment.key == "b":
            learner, loss = pack.learners["b"], pack.learners["b"].method.loss

            def hungry(batch, progress):
                if len(pack.learners) > 2:
                    crowded.append(learner.epoch)
                    raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
                return loss(batch, progress)

            learner.method.loss = hungry
        return report

    monkeypatch.setattr(Pack, "add", add_hungry)
    trials = {
        key: settings(3 if key != "a" else 2, lr) for key, lr in zip("abcd", (0.01, 0.02, 0.03, 0.04), strict=True)
    }
    broker = Broker(1, 4, gather_seconds=5)
    lives, _ = play(broker, trials, dataset, tmp_path)
    assert crowded, "it did run out of memory"
    assert len(crowded) < 4, "and was not tried again and again"
    for key, reports in lives.items():
        assert [r.epoch for r in reports] == list(range(1, trials[key]["train"]["epochs"] + 1))
        assert not reports[-1].error
        offsets = latest_checkpoint(tmp_path / key)["offsets"]
        monkeypatch.setattr(Pack, "add", add)
        assert same(weights(tmp_path / key), alone(dataset, trials[key], tmp_path / f"{key}-alone", offsets))


@pytest.mark.fault(9)
@pytest.mark.slow
def test_trials_of_more_seeds_than_memory_holds_beside_each_other_train_one_after_the_other(
    dataset, tmp_path, monkeypatch
):
    tried, run = [], Pack.run_epoch

    def crowded(pack, on_step):
        tried.append(len(pack.learners))
        if len(pack.learners) > 3:
            monkeypatch.setattr(pack.learners["b-seed2"].method, "loss", hungry)
        return run(pack, on_step)

    def hungry(*_):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(Pack, "run_epoch", crowded)
    lives, _ = play(Broker(1, 6, gather_seconds=5), {key: settings() for key in "ab"}, dataset, tmp_path, seeds=3)
    assert tried == [6, 3, 3, 3]
    assert all([report.epoch for report in lives[key]] == [1, 2] for key in "ab")
    assert all(not report.error and "seed/2/loss" in report.metrics for key in "ab" for report in lives[key])


@pytest.mark.slow
def test_a_trial_of_more_seeds_than_a_group_has_room_for_trains_all_the_same(dataset, tmp_path):
    lives, _ = play(Broker(1, 2, gather_seconds=0), {key: settings() for key in "ab"}, dataset, tmp_path, seeds=3)
    assert all(lives[key][-1].done and lives[key][-1].metrics["pack_learners"] == 3 for key in "ab")


@pytest.mark.fault(1)
@pytest.mark.fault(9)
@pytest.mark.slow
def test_one_that_no_memory_holds_fails_alone_and_without_a_loop(dataset, tmp_path, monkeypatch):
    tried = []
    add = Pack.add

    def add_hungry(pack, assignment):
        report = add(pack, assignment)
        if assignment.key == "b":

            def hungry(batch, progress):
                tried.append(len(pack.learners))
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory (simulated)")

            pack.learners["b"].method.loss = hungry
        return report

    monkeypatch.setattr(Pack, "add", add_hungry)
    lives, _ = play(Broker(1, 3, gather_seconds=5), {k: settings() for k in "abc"}, dataset, tmp_path)
    assert "can't allocate memory" in lives["b"][-1].error
    assert tried[-1] == 1
    assert len(tried) <= 3
    assert all(lives[key][-1].done for key in "ac")


def test_trials_of_two_data_settings_are_trained_in_turn_by_one_group(dataset, tmp_path):
    trials = {"a": settings(), "b": settings(batch_size=8), "c": settings()}
    lives, orders = play(Broker(1, 4, gather_seconds=5), trials, dataset, tmp_path)
    assert all(reports[-1].done for reports in lives.values())
    sizes = [order.data.batch_size for order in orders if order.data]
    assert sizes[:4] in ([16, 8, 16, 8], [8, 16, 8, 16])
    for key, values in trials.items():
        assert same(weights(tmp_path / key), alone(dataset, values, tmp_path / f"{key}-alone", [[0, 0]]))


class TwoWorkers(Workers):
    """The first of two workers, for what it decides; it never speaks to the other."""

    def __init__(self, ended=False):
        self.rank, self.world, self._ended = 0, 2, ended

    @property
    def ended(self):
        return self._ended

    def gather_of(self, batch_size):
        return lambda rows: rows

    def sum_gradients(self, parameters):
        pass

    def broadcast(self, value):
        return value

    def average_buffers(self, module):
        pass


class Script:
    """A control that plays a list of orders."""

    def __init__(self, *orders):
        self.orders, self.told = list(orders), []

    def boundary(self, reports, load):
        return self.orders.pop(0)

    def started(self):
        pass

    def tick(self, share):
        pass

    def failed(self, reports):
        self.told += reports


def test_a_learner_that_one_of_two_workers_cannot_train_brings_the_group_down_and_is_named(dataset, monkeypatch):
    def broken(self, batch, progress):
        raise RuntimeError("device-side assert")

    monkeypatch.setattr("raydistill.methods.baselines.simclr.SimCLR.loss", broken)
    value = settings()
    control = Script(Directive(DataConfig(**value["data"]), [request("a", value)]))
    with pytest.raises(LearnerError, match="a: device-side assert"):
        serve(control, evaluate=no_evaluation, load=lambda _: dataset, workers=TwoWorkers())
    assert [(report.key, report.error) for report in control.told] == [("a", "device-side assert")]


def test_an_image_that_one_of_two_workers_cannot_read_names_every_learner_of_its_pack(dataset, monkeypatch):
    def unreadable(*_):
        raise DataError("cat.png: cannot be read")

    monkeypatch.setattr("raydistill.training.pack.Pack.run_epoch", unreadable)
    value = settings()
    control = Script(Directive(DataConfig(**value["data"]), [request("a", value), request("b", value)]))
    with pytest.raises(LearnerError, match="cat"):
        serve(control, evaluate=no_evaluation, load=lambda _: dataset, workers=TwoWorkers())
    assert [report.key for report in control.told] == ["a", "b"]


@pytest.mark.fault(3)
def test_a_worker_that_is_gone_is_no_fault_of_the_learner_that_noticed(dataset, monkeypatch):
    def cut(self, batch, progress):
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    monkeypatch.setattr("raydistill.methods.baselines.simclr.SimCLR.loss", cut)
    value = settings()
    control = Script(Directive(DataConfig(**value["data"]), [request("a", value)]))
    with pytest.raises(RuntimeError, match="closed by peer") as caught:
        serve(control, evaluate=no_evaluation, load=lambda _: dataset, workers=TwoWorkers())
    assert not isinstance(caught.value, LearnerError)
    assert control.told == []


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "where", ["raydistill.methods.baselines.simclr.SimCLR.loss", "raydistill.training.pack.Pack.add"]
)
def test_a_group_that_ends_under_its_loops_is_no_fault_of_the_learners(dataset, monkeypatch, where):
    """As Ray Train ends it for the workers that are left, and to change a group's size."""

    def ended(*_):
        raise ValueError("Default process group has not been initialized")

    monkeypatch.setattr(where, ended)
    value = settings()
    control = Script(Directive(DataConfig(**value["data"]), [request("a", value)]))
    with pytest.raises(ValueError, match="process group"):
        serve(control, evaluate=no_evaluation, load=lambda _: dataset, workers=TwoWorkers(ended=True))
    assert control.told == []


def test_what_all_workers_see_alike_brings_no_group_down(dataset, monkeypatch):
    def infinite(self, batch, progress):
        raise NonFiniteError("loss = nan at epoch 0, step 0")

    pack = Pack(dataset, DataConfig(**DATA), evaluate=no_evaluation, workers=TwoWorkers())
    pack.add(request("a", settings()))
    monkeypatch.setattr(pack.learners["a"].method, "loss", lambda *_: infinite(None, *_))
    (report,) = pack.run_epoch()
    assert "loss = nan" in report.error


def test_what_was_trained_but_never_heard_of_is_reported_again(dataset, tmp_path):
    value = settings(3)
    pack = Pack(dataset, DataConfig(**DATA), evaluate=no_evaluation)
    pack.add(request("a", value, str(tmp_path / "a")))
    (lost,) = pack.run_epoch()
    again = Pack(dataset, DataConfig(**DATA), evaluate=no_evaluation)
    told = again.add(request("a", value, str(tmp_path / "a"), last_delivered_epoch=0))
    assert (told.epoch, told.metrics, told.done) == (1, lost.metrics, False)
    assert "a" in again.learners
    assert (
        Pack(dataset, DataConfig(**DATA), evaluate=no_evaluation).add(
            request("a", value, str(tmp_path / "a"), last_delivered_epoch=1)
        )
        is None
    )

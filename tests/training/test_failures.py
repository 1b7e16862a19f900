"""What a pack does when memory runs out or its GPU fails: nobody is blamed who did nothing."""

import pytest
import torch
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.training.pack import LearnerError, Pack

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


@pytest.fixture
def pack(dataset):
    """Of two trials, `a` and `b`, of one epoch."""
    made = Pack(dataset, DataConfig(**DATA), evaluate=lambda *_: {})
    method = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8}
    for key in "ab":
        made.add(request(key, config.dump(config.load({"method": method, "data": DATA, "train": {"epochs": 1}}))))
    return made


@pytest.mark.fault(9)
def test_out_of_memory_ends_one_learner(pack, monkeypatch):
    def too_much(batch, progress):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(pack.learners["b"].method, "loss", too_much)
    failed, done = pack.run_epoch()
    assert (failed.key, failed.memory, failed.done) == ("b", True, False)
    assert "out of memory" in failed.error
    assert (done.key, done.done) == ("a", True)


@pytest.mark.fault(9)
def test_images_of_a_step_that_memory_does_not_hold_are_nobodys_fault(pack, monkeypatch):
    honest = pack.stream.epoch

    def too_much(epoch, views):
        yield next(honest(epoch, views))
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(pack.stream, "epoch", too_much)
    reports = pack.run_epoch()
    assert [(report.key, report.epoch, report.memory, report.done) for report in reports] == [
        ("a", 0, True, False),
        ("b", 0, True, False),
    ]
    assert reports[0].error == "no room for what all learners share: CUDA out of memory (simulated)"
    assert pack.members == {}
    assert pack.load is None, "half an epoch says nothing of how many fit"


@pytest.mark.fault(9)
@pytest.mark.parametrize("where", ["step", "scores"])
def test_a_gpu_that_failed_ends_the_worker_and_no_learner(pack, monkeypatch, where):
    """Every later call of the process would fail, so each learner would be blamed in turn."""

    def assert_triggered(*given):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    if where == "step":
        monkeypatch.setattr(pack.learners["b"].method, "loss", assert_triggered)
    else:
        monkeypatch.setattr(pack, "evaluate", assert_triggered)
    with pytest.raises(torch.AcceleratorError):
        pack.run_epoch()
    assert set(pack.members) == {"a", "b"}


class TwoWorkers:
    """This process as worker 0 of two; what they would tell each other is left out."""

    rank, world = 0, 2

    def lost(self, error):
        return False

    def sum_gradients(self, parameters):
        pass

    def average_buffers(self, method):
        pass

    def gather_of(self, batch_size):
        return lambda rows: rows


@pytest.mark.fault(9)
@pytest.mark.parametrize(("where", "named"), [("step", {"b"}), ("images", {"a", "b"}), ("scores", {"a", "b"})])
def test_of_several_workers_one_names_all_that_ran_out_and_nobody_else(pack, monkeypatch, where, named):
    def too_much(*given):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    pack.workers = TwoWorkers()
    for learner in pack.learners.values():
        learner.workers = pack.workers
    if where == "step":
        monkeypatch.setattr(pack.learners["b"].method, "loss", too_much)
    elif where == "images":
        monkeypatch.setattr(pack.stream, "epoch", lambda epoch, views: map(too_much, [0]))
    else:
        monkeypatch.setattr(pack, "evaluate", too_much)
    with pytest.raises(LearnerError) as caught:
        pack.run_epoch()
    assert {report.key for report in caught.value.reports} == named
    assert all(report.memory for report in caught.value.reports)

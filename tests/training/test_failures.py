"""What a pack does when a learner raises, memory runs out or its GPU fails: nobody is blamed who did nothing."""

import logging

import pytest
import torch
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.failures import ERROR_FILE, LearnerError, remove_traceback, write_traceback
from raydistill.training.pack import Pack

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


def asked(key, folder):
    method = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8}
    values = config.dump(config.load({"method": method, "data": DATA, "train": {"epochs": 1}}))
    return request(key, values, str(folder / key))


@pytest.fixture
def pack(dataset, tmp_path):
    """Of two trials, `a` and `b`, of one epoch, each with a folder of its own."""
    made = Pack(dataset, DataConfig(**DATA), evaluate=lambda *_: {})
    for key in "ab":
        made.add(asked(key, tmp_path))
    return made


def broken_loss(batch, progress):
    raise KeyError("no such view")  # this line is in the traceback


def test_a_learner_that_raises_leaves_its_traceback_and_its_neighbour_trains_on(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(pack.learners["b"].method, "loss", broken_loss)
    failed, done = pack.run_epoch()
    assert (failed.key, failed.error) == ("b", "KeyError: 'no such view'")
    told = (tmp_path / "b" / ERROR_FILE).read_text()
    assert told.startswith("Traceback (most recent call last):\n")
    assert f'{__file__}", line {broken_loss.__code__.co_firstlineno + 1}, in broken_loss' in told
    assert 'raise KeyError("no such view")  # this line is in the traceback' in told
    assert told.endswith("KeyError: 'no such view'\n")
    assert (done.key, done.done) == ("a", True)
    assert not (tmp_path / "a" / ERROR_FILE).exists()
    assert latest_checkpoint(tmp_path / "a") is not None


def test_a_trial_that_goes_on_has_no_traceback_of_its_earlier_life(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(pack.learners["b"].method, "loss", broken_loss)
    pack.run_epoch()
    pack.add(asked("b", tmp_path))
    assert not (tmp_path / "b" / ERROR_FILE).exists()


def test_one_that_cannot_be_built_leaves_its_traceback(pack, tmp_path, monkeypatch):
    monkeypatch.setattr("raydistill.training.pack.Learner", broken_loss)
    report = pack.add(asked("c", tmp_path))
    assert report.error
    assert ", in _build\n" in (tmp_path / "c" / ERROR_FILE).read_text()


def test_a_traceback_has_its_causes_and_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
    try:
        try:
            raise OSError("https://user:hunter22@host/x refuses s3cr3t-value")
        except OSError as cause:
            raise RuntimeError("the teacher cannot be read") from cause
    except RuntimeError as error:
        write_traceback(tmp_path / "new", error)
    told = (tmp_path / "new" / ERROR_FILE).read_text()
    assert "OSError: https://***@host/x refuses ***\n" in told
    assert told.endswith("RuntimeError: the teacher cannot be read\n")
    assert "hunter22" not in told
    assert "s3cr3t-value" not in told


def test_a_folder_that_cannot_be_written_hides_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "raydistill"):
        write_traceback(tmp_path / "file", ValueError("the cause"))
        remove_traceback(tmp_path / "file")
        write_traceback(None, ValueError("the cause"))
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"{tmp_path / 'file' / ERROR_FILE}: cannot be written"
    ]


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

"""Checkpoints of some epochs only: what is repeated after a loss is not told twice."""

import pytest
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.training.checkpoint_files import epoch_of, finished
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import Pack

DATA = {"source": "digits", "limit": 60, "batch_size": 16, "image_size": 8}
EPOCHS, EVERY = 7, 3


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


def values(seed=0, every=EVERY, **train):
    method = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8}
    given = {"epochs": EPOCHS, "lr": 0.01, "seed": seed, "checkpoint_every": every, **train}
    return config.dump(config.load({"method": method, "data": DATA, "train": given}))


def pack_with(dataset, folder, delivered=None, scores=None, **trials):
    pack = Pack(dataset, DataConfig(**DATA), evaluate=lambda due, *_: {key: scores or {} for key in due})
    for key, given in trials.items():
        assert pack.add(request(key, given, str(folder / key), delivered)) is None
    return pack


def epochs_on_disk(folder):
    return sorted(map(epoch_of, finished(folder)))


def test_every_third_epoch_and_the_last_have_one(dataset, tmp_path):
    pack = pack_with(dataset, tmp_path, a=values(), b=values(1, every=1))
    for epoch in range(1, EPOCHS + 1):
        assert {report.key: report.epoch for report in pack.run_epoch()} == {"a": epoch, "b": epoch}
        assert epochs_on_disk(tmp_path / "a") == [3, 6, 7][: (epoch >= 3) + (epoch >= 6) + (epoch >= 7)][-2:]
    assert epochs_on_disk(tmp_path / "b") == [6, 7]


def test_what_a_lost_worker_had_told_is_repeated_in_silence(dataset, tmp_path):
    pack = pack_with(dataset, tmp_path, a=values())
    for _ in range(5):
        pack.run_epoch()
    pack = pack_with(dataset, tmp_path, delivered=5, a=values())
    assert pack.learners["a"].epoch == 3
    told = [[report.epoch for report in pack.run_epoch()] for _ in range(4)]
    assert told == [[], [], [6], [7]]
    assert latest_checkpoint(tmp_path / "a")["epoch"] == EPOCHS


def test_a_repetition_that_fails_is_told(dataset, tmp_path):
    pack = pack_with(dataset, tmp_path, a=values())
    for _ in range(5):
        pack.run_epoch()
    pack = pack_with(dataset, tmp_path, delivered=5, a=values(lr=1e30))
    told = [report for _ in range(3) for report in pack.run_epoch()]
    assert len(told) == 1
    assert told[0].error


def test_checkpoints_change_no_weights(dataset, tmp_path):
    for every in (1, EVERY):
        pack = pack_with(dataset, tmp_path / str(every), a=values(every=every))
        while pack.learners:
            pack.run_epoch()
    assert same(weights(tmp_path / "1" / "a"), weights(tmp_path / str(EVERY) / "a"))


def test_a_run_that_its_scores_end_has_a_checkpoint_of_its_last_epoch(dataset, tmp_path):
    """With `train.patience` it is known after the scores only."""
    given = values(every=1000, epochs=40, patience=1)
    pack = pack_with(dataset, tmp_path, scores={"val_knn": 0.5}, a=given)
    last = 0
    while pack.learners:
        last = pack.run_epoch()[0].epoch
    assert last < 40
    assert epochs_on_disk(tmp_path / "a") == [last]


def test_an_epoch_whose_scores_fail_leaves_no_checkpoint(dataset, tmp_path):
    def failing(due, *_):
        return {key: RuntimeError("no scores") for key in due}

    pack = Pack(dataset, DataConfig(**DATA), evaluate=failing)
    pack.add(request("a", values(every=1), str(tmp_path / "a")))
    (report,) = pack.run_epoch()
    assert "no scores" in report.error
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["error.txt"]

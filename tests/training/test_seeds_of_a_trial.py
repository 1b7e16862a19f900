"""A trial of several seeds: bit-identical to single runs, one mean, one checkpoint, one end."""

import math
from statistics import fmean

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.training.checkpoint_files import adopt, finished
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.messages import seed_metric
from raydistill.training.pack import Pack

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
FIRST, SEEDS = 5, 3


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


def settings(seed=FIRST, epochs=2, **train):
    method = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8}
    values = {"method": method, "data": DATA, "train": {"lr": 0.01, "epochs": epochs, "seed": seed, **train}}
    return config.dump(config.load(values))


def by_weights(due, dataset, device):
    """Scores that tell one network from another."""
    return {name: {"val_knn": _score(candidate.encoders["student"])} for name, candidate in due.items()}


def _score(encoder):
    return sum(float(p.detach().abs().sum()) for p in encoder.parameters())


def make_pack(dataset):
    return Pack(dataset, DataConfig(**DATA), evaluate=by_weights)


def alone(dataset, folder, epochs=2):
    """Single runs with the seeds of the trial: their learners, and their results by epoch."""
    learners, results = [], []
    for number in range(SEEDS):
        pack = make_pack(dataset)
        assert pack.add(request("alone", settings(FIRST + number, epochs), str(folder / f"alone-{number}"))) is None
        learners.append(pack.learners["alone"])
        results.append([pack.run_epoch()[0] for _ in range(epochs)])
    return learners, results


def with_seeds(folder, key="t0", **values):
    return request(key, settings(**values), str(folder / key), seeds=SEEDS)


def all_same(learners, others):
    pairs = zip(learners, others, strict=True)
    return all(same(a.method.state_dict(), b.method.state_dict()) for a, b in pairs)


def test_every_seed_is_bit_identical_to_a_single_run_and_the_trial_reports_the_mean(dataset, tmp_path):
    pack = make_pack(dataset)
    assert pack.add(request("other", settings(9, 3))) is None
    assert pack.add(with_seeds(tmp_path)) is None
    learners = [learner for name, learner in pack.learners.items() if name.startswith("t0")]
    assert [learner.config.train.seed for learner in learners] == [5, 6, 7]
    results = [next(report for report in pack.run_epoch() if report.key == "t0") for _ in range(2)]
    singles, theirs = alone(dataset, tmp_path)
    assert all_same(learners, singles)
    assert len({_score(learner.method.encoders()["student"]) for learner in learners}) == SEEDS
    for epoch, result in enumerate(results):
        for metric in ("loss", "val_knn"):
            values = [single[epoch].metrics[metric] for single in theirs]
            assert result.metrics[metric] == fmean(values)
            assert [result.metrics[seed_metric(metric, number)] for number in range(SEEDS)] == values
        assert result.metrics["pack_learners"] == SEEDS + 1
        assert result.offsets == theirs[0][epoch].offsets
    assert [result.done for result in results] == [False, True]
    assert pack.load.learners == SEEDS + 1
    assert list(pack.members) == ["other"]


def test_the_first_seed_is_what_the_trial_keeps(dataset, tmp_path):
    pack = make_pack(dataset)
    pack.add(with_seeds(tmp_path))
    pack.run_epoch()
    running = latest_checkpoint(tmp_path / "t0")
    assert [list(state) == list(running)[:-1] for state in running["other_seeds"]] == [True, True]
    pack.run_epoch()
    alone(dataset, tmp_path)
    kept, single = latest_checkpoint(tmp_path / "t0"), latest_checkpoint(tmp_path / "alone-0")
    assert same(weights(tmp_path / "t0"), weights(tmp_path / "alone-0"))
    assert kept["metrics"]["val_knn"] == single["metrics"]["val_knn"]
    assert [list(state) for state in kept["other_seeds"]] == [["metrics"], ["metrics"]], (
        "weights of the others are gone"
    )
    assert "other_seeds" not in single
    before, last = reversed(finished(tmp_path / "t0"))
    assert before.stat().st_size > 2 * last.stat().st_size


@pytest.mark.fault(3)
def test_a_resumed_trial_goes_on_with_all_seeds(dataset, tmp_path):
    cut = make_pack(dataset)
    cut.add(with_seeds(tmp_path, epochs=3, schedule="cosine", optimizer="sgd"))
    first = cut.run_epoch()[0]
    again = make_pack(dataset)
    told = again.add(
        request("t0", settings(epochs=3, schedule="cosine", optimizer="sgd"), str(tmp_path / "t0"), 0, SEEDS)
    )
    assert told == first, "a result that did not reach its trial is reported again, as it was"
    learners = list(again.learners.values())
    last = [again.run_epoch()[0] for _ in range(2)][-1]
    whole = make_pack(dataset)
    whole.add(with_seeds(tmp_path, "whole", epochs=3, schedule="cosine", optimizer="sgd"))
    uncut = list(whole.learners.values())
    for _ in range(3):
        (report,) = whole.run_epoch()
    assert all_same(learners, uncut)
    assert last.metrics["val_knn"] == report.metrics["val_knn"]
    ended = make_pack(dataset).add(with_seeds(tmp_path, epochs=3, schedule="cosine", optimizer="sgd"))
    assert ended == last


def test_a_population_copies_all_seeds(dataset, tmp_path):
    pack = make_pack(dataset)
    pack.add(with_seeds(tmp_path, "donor"))
    pack.run_epoch()
    adopt(tmp_path / "donor", 1, tmp_path / "copy")
    donor = list(pack.learners.values())
    pack.add(request("copy", settings(lr=0.5), str(tmp_path / "copy"), 1, SEEDS))
    copy = [learner for name, learner in pack.learners.items() if name.startswith("copy")]
    assert all_same(copy, donor)
    assert [learner.config.train.lr for learner in copy] == [0.5] * SEEDS
    assert {report.key: report.done for report in pack.run_epoch()} == {"donor": True, "copy": True}
    assert not any(same(a.method.state_dict(), b.method.state_dict()) for a, b in zip(copy, donor, strict=True))


def test_a_checkpoint_of_another_number_of_seeds_is_refused(dataset, tmp_path):
    pack = make_pack(dataset)
    pack.add(with_seeds(tmp_path))
    pack.run_epoch()
    report = make_pack(dataset).add(request("t0", settings(), str(tmp_path / "t0"), seeds=2))
    assert report.error == "the checkpoint is of 3 seeds, and 2 are to be trained"


@pytest.mark.fault(1)
@pytest.mark.parametrize(("error", "memory"), [(None, False), (torch.OutOfMemoryError("out of memory"), True)])
def test_a_seed_that_fails_ends_its_trial_and_no_other(dataset, tmp_path, monkeypatch, error, memory):
    pack = make_pack(dataset)
    pack.add(with_seeds(tmp_path))
    pack.add(request("good", settings(), str(tmp_path / "good")))
    honest, steps = pack.learners["t0-seed1"].method.loss, []

    def poisoned(batch, progress):
        steps.append(1)
        if error is not None:
            raise error
        return {name: term * math.nan for name, term in honest(batch, progress).items()}

    monkeypatch.setattr(pack.learners["t0-seed1"].method, "loss", poisoned)
    last = pack.learners["t0-seed2"]
    failed, good = pack.run_epoch()
    assert (failed.key, failed.memory, good.key, good.error) == ("t0", memory, "good", "")
    assert failed.error.startswith("train.seed = 6: ")
    assert len(steps) == 1
    assert last.step == 0, "the seeds after it train no further"
    assert list(pack.members) == ["good"]


def test_a_score_that_one_seed_does_not_have_ends_the_trial(dataset, tmp_path):
    def failing(due, dataset, device):
        return {**by_weights(due, dataset, device), "t0-seed2": ValueError("no neighbours")}

    pack = Pack(dataset, DataConfig(**DATA), evaluate=failing)
    pack.add(with_seeds(tmp_path))
    (report,) = pack.run_epoch()
    assert report.error == "train.seed = 7: no neighbours"
    assert not finished(tmp_path / "t0")

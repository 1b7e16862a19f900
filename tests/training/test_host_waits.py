"""A step asks nothing of the device that a host would wait for, and still finds what is not finite."""

import math

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.host_waits import host_waits
from helpers.requests import request
from helpers.rows import ROWS, batch_for, make

from raydistill import config
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.methods import StepInfo
from raydistill.training import learner as module
from raydistill.training.pack import Pack

DATA = {"source": "digits", "limit": 80, "image_size": 8, "batch_size": 16}
DOGO = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w8"], "hidden_dim": 16, "projection_dim": 8}


def test_waits_are_found():
    values = torch.ones(3)
    with host_waits() as found:
        bool(values.sum() > 1)
        values[values > 0]
        values.nonzero()
    assert found == ["_local_scalar_dense", "index", "nonzero"]


@pytest.mark.parametrize("name", ROWS)
def test_no_method_waits(name):
    method = make(name)
    batch = batch_for(method)
    with host_waits() as found:
        method.loss(batch, StepInfo(5, 10))["loss"].backward()
        method.after_step(StepInfo(5, 10))
    assert found == []


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


def pack_of(dataset, folder, waits, **train):
    """Two trials, `a` and `b`, whose learners wait for each step as on a CPU, or not as on a GPU."""
    pack = Pack(dataset, DataConfig(**DATA), evaluate=lambda *_: {})
    values = {"method": DOGO, "data": DATA, "train": {"epochs": 2, "lr": 0.01, **train}}
    for key in "ab":
        pack.add(request(key, config.dump(config.load(values)), str(folder / key)))
    for learner in pack.learners.values():
        learner._waits = waits
    return pack


@pytest.mark.parametrize(
    "train",
    [{}, {"optimizer": "sgd", "clip_norm": 1.0}, {"optimizer": "lars", "schedule": "cosine", "warmup_epochs": 1}],
)
def test_steps_without_waits_give_the_same_weights(dataset, tmp_path, monkeypatch, train):
    waits = {}
    honest = module.Learner.train_step

    def watched(self, batch):
        with host_waits() as found:
            honest(self, batch)
        waits.setdefault(self._waits, []).extend(found)

    monkeypatch.setattr(module.Learner, "train_step", watched)
    for waiting in (True, False):
        pack = pack_of(dataset, tmp_path / str(waiting), waiting, **train)
        for _ in range(2):
            assert [report.error for report in pack.run_epoch()] == ["", ""]
    assert waits[False] == []
    assert len(waits[True]) == 2 * 2 * 5, "one in each step of each learner"
    assert same(weights(tmp_path / "True" / "a"), weights(tmp_path / "False" / "a"))


@pytest.mark.parametrize("every", [1, 2, 50])
@pytest.mark.parametrize("what", ["ssl_1", "loss", "gradient"])
def test_what_is_not_finite_is_found_later_and_named_as_at_once(dataset, tmp_path, monkeypatch, every, what):
    monkeypatch.setattr(module, "CHECKED_EVERY", every)
    said, steps = {}, {}
    for waiting in (True, False):
        pack = pack_of(dataset, tmp_path / str(waiting), waiting)
        bad = pack.learners["b"].method
        honest, count = bad.loss, []

        def poisoned(batch, progress, honest=honest, count=count):
            terms = honest(batch, progress)
            count.append(1)
            if len(count) == 2 and what == "gradient":
                terms["loss"] = terms["loss"].detach() + (terms["loss"] - terms["loss"].detach()).abs().sqrt()
            elif len(count) == 2:
                terms |= {what: terms[what] * math.nan, "loss": terms["loss"] * math.nan}
            return terms

        monkeypatch.setattr(bad, "loss", poisoned)
        reports = {report.key: report for report in pack.run_epoch()}
        assert not reports["a"].error
        said[waiting], steps[waiting] = reports["b"].error, len(count)
    assert said[True] == said[False]
    assert "epoch 0, step 1" in said[True]
    assert steps == {True: 2, False: {1: 2, 2: 2, 50: 5}[every]}
    assert not list((tmp_path / "False" / "b").glob("epoch-*")), "such weights are not kept"
    assert same(weights(tmp_path / "True" / "a"), weights(tmp_path / "False" / "a"))

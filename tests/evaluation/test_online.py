"""Learners are scored together: each as it would be alone, from images that are read once, and its faults its own."""

from dataclasses import replace

import pytest
import torch
from helpers.requests import request
from torch import nn

from raydistill import config
from raydistill.config import DataConfig, EvalConfig
from raydistill.data.images import BadImageError, Images
from raydistill.data.sources import load_dataset
from raydistill.evaluation import final, online
from raydistill.evaluation.online import evaluate
from raydistill.models.backbones import Backbone
from raydistill.training.pack import Candidate, Pack

CPU = torch.device("cpu")
SETTINGS = EvalConfig()


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(limit=120, image_size=8))


def backbone(seed):
    torch.manual_seed(seed)
    return Backbone("resnet10_w4", stem="auto", image_size=8)


def candidate(*seeds, **settings):
    names = ("student", "peer_2", "peer_3")
    return Candidate(dict(zip(names, map(backbone, seeds), strict=False)), EvalConfig(**settings))


class Broken(nn.Module):
    """Fails at its second batch, or gives what is no number."""

    def __init__(self, *, finite=True):
        super().__init__()
        self.dim, self.finite, self.seen = 4, finite, 0

    def forward(self, images):
        self.seen += 1
        if not self.finite:
            return torch.full((len(images), 4), torch.nan)
        if self.seen > 1:
            raise RuntimeError("CUDA out of memory")
        return images.flatten(1)[:, :4]


def test_scores_in_company_are_those_of_each_alone(dataset):
    learners = {"a": candidate(0), "b": candidate(1, 2), "c": candidate(3, ks=(1,), bank_images=40)}
    together = evaluate(learners, dataset, CPU)
    assert set(together["b"]) == {"val_knn", "val_knn_peer_2"}
    for key, learner in learners.items():
        assert together[key] == evaluate({key: learner}, dataset, CPU)[key]


def test_images_are_read_once_for_all_that_look_at_the_same(dataset, monkeypatch):
    read = []
    fetch = Images.fetch
    monkeypatch.setattr(Images, "fetch", lambda self, rows: read.append(len(rows)) or fetch(self, rows))
    evaluate({str(seed): candidate(seed) for seed in range(5)}, dataset, CPU)
    assert sum(read) == len(dataset.train) + len(dataset.val)


def test_features_that_do_not_fit_together_are_made_one_learner_at_a_time(dataset, monkeypatch):
    learners = {str(seed): candidate(seed) for seed in range(3)}
    whole = evaluate(learners, dataset, CPU)
    monkeypatch.setattr(online, "FEATURE_BYTES", 1)
    assert [list(group) for group in online._groups(learners, dataset)] == [["0"], ["1"], ["2"]]
    assert evaluate(learners, dataset, CPU) == whole


@pytest.mark.parametrize(("finite", "said"), [(True, "out of memory"), (False, "not finite")])
def test_an_encoder_that_fails_fails_alone(dataset, finite, said):
    good = candidate(0)
    alone = evaluate({"good": good}, dataset, CPU)
    bad = Candidate({"student": Broken(finite=finite)}, SETTINGS)
    found = evaluate({"bad": bad, "good": good}, dataset, CPU)
    assert found["good"] == alone["good"]
    assert said in str(found["bad"])
    assert good.encoders["student"].training


class Tight(nn.Module):
    """Has room for 50 images at a time."""

    dim = 4

    def forward(self, images):
        if len(images) > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.flatten(1)[:, :4]


class Roomy(Tight):
    def forward(self, images):
        return images.flatten(1)[:, :4]


def test_a_batch_that_memory_does_not_hold_is_scored_in_halves(dataset):
    assert len(dataset.val) > 50 or len(dataset.train) > 50
    found = evaluate({"t": Candidate({"student": Tight()}, SETTINGS)}, dataset, CPU)
    assert found["t"] == evaluate({"r": Candidate({"student": Roomy()}, SETTINGS)}, dataset, CPU)["r"]


def test_a_gpu_that_failed_is_no_encoders_fault(dataset):
    class Lost(nn.Module):
        def forward(self, images):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        evaluate({"bad": Candidate({"student": Lost()}, SETTINGS), "good": candidate(0)}, dataset, CPU)


def test_a_gpu_that_failed_scores_no_other_run(tmp_path, monkeypatch):
    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(final, "score", lost)
    with pytest.raises(torch.AcceleratorError):
        final.score_all([(config.load({"method": "simclr"}), str(tmp_path))], threads=1)


def test_without_labels_crops_find_their_image(dataset):
    bare = load_dataset(DataConfig(limit=120, image_size=8))
    for split in (bare.train, bare.val):
        split.labels = None
    found = evaluate({"a": candidate(0), "b": candidate(1, 2)}, bare, CPU)
    assert set(found["b"]) == {"val_instance", "val_instance_peer_2", "val_rank", "val_rank_peer_2"}
    assert 1 < found["a"]["val_rank"] < candidate(0).encoders["student"].dim
    assert found["a"] == evaluate({"a": candidate(0)}, bare, CPU)["a"]


def test_collapsed_features_have_no_rank(dataset):
    bare = load_dataset(DataConfig(limit=120, image_size=8))
    bare.train.labels = bare.val.labels = None
    network = candidate(0).encoders["student"]
    for parameter in network.parameters():
        parameter.data.zero_()
    assert evaluate({"a": Candidate({"student": network}, SETTINGS)}, bare, CPU)["a"] == {
        "val_instance": 0.0,
        "val_rank": 0.0,
    }


def test_scores_come_from_the_labelled_images(dataset):
    """Whatever trains: only the labelled images are looked at."""
    other = dataset.train.subset(range(20))
    other.labels = None
    beside = replace(dataset, train=other, labelled=dataset.train)
    assert evaluate({"a": candidate(0)}, beside, CPU) == evaluate({"a": candidate(0)}, dataset, CPU)


def test_a_limited_bank_holds_all_classes_in_proportion(dataset):
    """A folder lists its images class by class: the first forty would be of a few classes."""
    labels = dataset.train.labels
    ordered = dataset.train.subset(labels.argsort(stable=True))
    rows = online._bank(ordered, 40)
    assert len(rows) == 40
    counts = torch.bincount(ordered.labels[rows], minlength=10)
    assert counts.min() >= 3
    assert counts.max() <= 5
    assert online._bank(ordered, None) == list(range(len(ordered)))


def settings(**train):
    return {
        "method": {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8},
        "data": {"limit": 120, "batch_size": 32, "image_size": 8},
        "train": {"epochs": 2, "lr": 0.01, **train},
    }


def test_a_pack_scores_its_learners_in_one_call_and_a_failure_ends_one(dataset):
    calls = []

    def score(learners, images, device):
        calls.append(list(learners))
        return {key: ValueError("no score") if key == "b" else {"val_knn": 0.5} for key in learners}

    pack = Pack(dataset, DataConfig(**settings()["data"]), evaluate=score)
    for key in "abc":
        assert pack.add(request(key, settings(seed=ord(key)), None)) is None
    reports = {report.key: report for report in pack.run_epoch()}
    assert calls == [["a", "b", "c"]]
    assert reports["b"].error == "no score"
    assert reports["a"].metrics["val_knn"] == 0.5
    assert not reports["c"].error
    assert set(pack.learners) == {"a", "c"}


def test_images_that_cannot_be_read_while_scoring_end_all_that_look_at_them(dataset):
    def score(learners, images, device):
        raise BadImageError("photos/7.jpg: unreadable image")

    pack = Pack(dataset, DataConfig(**settings()["data"]), evaluate=score)
    for key in "ab":
        pack.add(request(key, settings(seed=ord(key)), None))
    assert {report.error for report in pack.run_epoch()} == {"photos/7.jpg: unreadable image"}
    assert not pack.learners


def test_learners_that_are_not_due_are_not_scored(dataset):
    calls = []
    pack = Pack(
        dataset, DataConfig(**settings()["data"]), evaluate=lambda learners, *_: calls.append(list(learners)) or {}
    )
    pack.add(request("a", {**settings(), "eval": {"every": 2}}, None))
    pack.add(request("b", settings(), None))
    pack.run_epoch()
    pack.run_epoch()
    assert calls == [["b"], ["a", "b"]]

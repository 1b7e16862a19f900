"""What all tasks have in common: names, failures that cost nothing else, and networks that lack what a task needs."""

from importlib import import_module

import pytest
import torch
from helpers.builders.subjects import subject
from torch import nn

from raydistill.config import ConfigError
from raydistill.evaluation.references import RawPixels
from raydistill.evaluation.tasks import base, noise, tsne
from raydistill.evaluation.tasks.base import Findings, run_tasks
from raydistill.evaluation.tasks.names import TASKS, check_tasks, parse
from raydistill.evaluation.teacher_features import TeacherFeatures, ThawedTeacher, trainable
from raydistill.models.backbones import Backbone
from raydistill.models.teacher import FrozenTeacher


def test_every_task_has_its_module():
    for task in TASKS.values():
        module = import_module(f"raydistill.evaluation.tasks.{task.module}")
        assert callable(module.score)
        assert hasattr(module, "draw") == (task.data == "folder"), task.module


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [("noise", "noise", ""), ("transfer:torchvision:CIFAR100", "transfer", "torchvision:CIFAR100")],
)
def test_a_task_and_its_data(text, name, source):
    assert parse(text) == (name, source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nois", "'nois' is unknown; did you mean 'noise'"),
        ("noise:digits", "noise scores on the run's own images; write noise"),
        ("transfer", "write transfer:DATA, where DATA is images"),
        ("video", "write video:DATA, where DATA is the benchmark's folder, or toy"),
    ],
)
def test_what_is_no_task(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "tasks", [("noise", "noise"), ("transfer:/a/flowers", "transfer:/b/Flowers"), ("detection:voc", "detection:coco")]
)
def test_scores_of_the_same_names_are_refused(tasks):
    with pytest.raises(ConfigError, match="their scores have the same names"):
        check_tasks(tasks)
    check_tasks(("noise", "transfer:/a/flowers", "transfer:/a/pets", "tuned", "tuned:/a/pets"))


@pytest.mark.parametrize("error", [ValueError("rows are not\nfinite"), RuntimeError("shapes"), KeyError("gone")])
def test_a_task_that_fails_costs_nothing_else(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(noise, "score", fail)
    monkeypatch.setattr(tsne, "score", lambda _: Findings({"test_other": 0.5}, {"tsne": b"png"}))
    found = run_tasks(subject(tasks=["noise", "tsne"]))
    assert found.scores == {"test_other": 0.5}
    assert found.pictures == {"tsne": b"png"}
    assert list(found.left_out) == ["noise"]
    assert "\n" not in found.left_out["noise"]


def test_a_lost_device_ends_the_process(monkeypatch):
    def fail(_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(noise, "score", fail)
    monkeypatch.setattr(base, "lost_device", lambda error: True)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run_tasks(subject(tasks=["noise"]))


def test_pixels_have_neither_weights_nor_maps():
    found = run_tasks(subject(RawPixels(), tasks=["tuned", "tuned_kd", "copies:toy", "video:toy"]), trained=False)
    assert (found.scores, found.left_out) == ({}, {})


@torch.no_grad()
def test_a_frozen_teacher_is_thawed_where_it_is_trained():
    shown, own = ((0.5,) * 3, (0.5,) * 3), ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    frozen = TeacherFeatures(FrozenTeacher(Backbone("resnet10_w4", image_size=8), None, own, shown))
    thawed = trainable(frozen)
    assert isinstance(thawed, ThawedTeacher)
    images = torch.randn(4, 3, 8, 8)
    assert torch.allclose(thawed.eval()(images), frozen(images), atol=1e-6)
    assert torch.allclose(frozen.maps(images)[0], frozen(images), atol=1e-6)
    plain = nn.Flatten()
    assert trainable(plain) is plain

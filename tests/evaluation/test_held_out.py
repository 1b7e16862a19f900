"""The error of a regression on images that it was not trained on, against NumPy."""

import numpy as np
import pytest
import torch
from helpers.rows import ROWS, make
from helpers.rows import options as options_of

from raydistill import config, methods
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import given_from, load
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.evaluation import final
from raydistill.evaluation.held_out import HeldOutDistance
from raydistill.evaluation.online import evaluate
from raydistill.options import METHODS
from raydistill.planning.prepare import ensure_teachers
from raydistill.training import teachers as providers
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.memory import in_parts
from raydistill.training.messages import JoinRequest
from raydistill.training.pack import Pack
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec

CPU = torch.device("cpu")
REGRESSIONS = {"simreg", "simreg_exits", "regress", "regress_bn"}


def settings(name, teachers=1, **changes):
    return config.load(
        {
            "method": {"name": name, **ROWS[name], **changes},
            "data": {"batch_size": 16, "image_size": 8, "limit": 48},
            "teacher": {"backbone": "resnet10_w4", "epochs": 1, "batch_size": 16, "count": teachers},
            "train": {"epochs": 2, "lr": 0.01},
            "eval": {"ks": [1], "probe_epochs": 1},
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("artifacts"))


def trained(wanted, store, folder):
    """A run with its teachers. Returns: its spec, and its last metrics."""
    spec = ensure_teachers(TrialSpec(wanted), store, folder / "teachers", evaluate=lambda *_: {})
    return spec, train(spec, folder / "run", evaluate=evaluate, device="cpu", store=store).metrics


def by_hand(spec, store, folder, split_name):
    """The mean over teachers and images of the squared distance of unit vectors, one image at a time, in float64."""
    wanted = spec.config
    dataset = load_dataset(wanted.data)
    split, shown = getattr(dataset, split_name), normalization(dataset.name, dataset.image_size)
    state = latest_checkpoint(folder / "run")
    method = methods.build(wanted.method, given_from(state), seed=0)
    method.load_state_dict(state["method"])
    method.eval()
    heads = method.heads if wanted.method.name.startswith("simreg") else [method.projection]
    backbone = method.network.backbone if wanted.method.name == "simreg_exits" else method.backbone
    distances = []
    for index in range(len(split)):
        image = evaluate_view([split.peek(index)], size=dataset.image_size, normalize=shown, device=CPU)
        for key, head in zip(spec.teachers, heads, strict=True):
            with torch.no_grad():
                target = load(store, key, shown, CPU)(image, "features")[0].double().numpy()
                prediction = head(backbone(image))[0].double().numpy()
            if wanted.method.name == "regress_bn":
                prediction, target = (
                    (value - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
                    for value, norm in ((prediction, method.student_norm), (target, method.teacher_norm))
                )
            prediction, target = (value / np.linalg.norm(value) for value in (prediction, target))
            distances.append(((prediction - target) ** 2).sum())
    return np.mean(distances)


@pytest.mark.parametrize(
    ("name", "teachers", "changes"),
    [
        ("simreg", 2, {}),
        ("simreg", 1, {"inference_layer": 2, "normalize": False}),
        ("simreg_exits", 2, {}),
        ("regress", 1, {}),
        ("regress_bn", 1, {}),
    ],
)
def test_the_error_is_numpys_while_training_and_on_test(name, teachers, changes, store, tmp_path):
    spec, metrics = trained(settings(name, teachers, **changes), store, tmp_path)
    assert metrics["val_mse"] == pytest.approx(by_hand(spec, store, tmp_path, "val"), rel=1e-4)
    assert 0 < metrics["val_mse"] < 4
    known = {"teachers": spec.teachers, "store": str(store.root)}
    scores = final.score(spec.config, str(tmp_path / "run"), threads=1, **known)
    assert scores["test_mse"] == pytest.approx(by_hand(spec, store, tmp_path, "test"), rel=1e-4)
    assert scores["test_mse"] != metrics["val_mse"]
    run = (spec.config, str(tmp_path / "run"))
    both = final.score_all([run, run], threads=1, teachers=[spec.teachers] * 2, store=str(store.root))
    assert both == [scores, scores]


def test_a_teacher_that_is_gone_leaves_the_error_out(store, tmp_path, caplog):
    spec, _ = trained(settings("regress"), store, tmp_path)
    known = {"teachers": spec.teachers, "store": str(tmp_path / "empty")}
    scores = final.score(spec.config, str(tmp_path / "run"), threads=1, **known)
    assert "test_mse" not in scores
    assert {"test_knn", "test_probe"} <= set(scores)
    assert spec.teachers[0] in caplog.text


def test_teachers_see_the_validation_images_once_for_all_learners_and_epochs(store, tmp_path, monkeypatch):
    spec = ensure_teachers(TrialSpec(settings("simreg")), store, tmp_path / "t", evaluate=lambda *_: {})
    made = []
    original = providers.held_out_outputs
    monkeypatch.setattr(providers, "held_out_outputs", lambda *args: made.append(1) or original(*args))
    pack = Pack(load_dataset(spec.data), spec.data, evaluate=evaluate, store=store)
    other = spec.with_config(settings("simreg", head_depth=1))
    for key, each in {"a": spec, "b": other}.items():
        assert pack.add(JoinRequest(key, each, None)) is None
    reports = [report for _ in range(2) for report in pack.run_epoch()]
    assert not any(report.error for report in reports)
    found = [report.metrics["val_mse"] for report in reports]
    assert len(set(found)) == 4, "two learners, two epochs"
    assert len(made) == 1


def test_without_labels_there_is_an_error_too(store, tmp_path):
    dataset = load_dataset(settings("simreg").data)
    for split in (dataset.train, dataset.val, dataset.test):
        split.labels = None
    spec = ensure_teachers(TrialSpec(settings("simreg")), store, tmp_path / "t", evaluate=lambda *_: {})
    pack = Pack(dataset, spec.data, evaluate=evaluate, store=store)
    assert pack.add(JoinRequest("a", spec, None)) is None
    (report,) = pack.run_epoch()
    assert {"val_instance", "val_mse"} <= set(report.metrics)
    assert "val_knn" not in report.metrics


@pytest.mark.parametrize("name", METHODS)
def test_only_methods_that_regress_a_teacher_have_it(name):
    assert options_of(name).regresses() == (name in REGRESSIONS)
    method, images = make(name), torch.randn(3, 3, 8, 8)
    if name in REGRESSIONS:
        (pair,) = method.eval().regression(images, [torch.randn(3, 12)])
        assert [side.shape for side in pair] == [(3, 12), (3, 12)]
    else:
        with pytest.raises(TypeError, match="must define regression"):
            method.regression(images, [])


def test_rows_that_memory_did_not_hold_together_are_compared_with_their_own_targets():
    """A batch that ran out of memory comes again in halves."""

    class Identity:
        def regression(self, images, targets):
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
            return [(images, target) for target in targets]

    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    error = HeldOutDistance.__new__(HeldOutDistance)
    torch.nn.Module.__init__(error)
    error.method, error.targets, error.seen = Identity(), (rows.clone(),), 0
    found = torch.cat([in_parts(error, part) for part in rows.split(5)])
    assert found.abs().max() < 1e-10

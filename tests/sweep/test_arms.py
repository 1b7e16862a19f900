"""An experiment as a sweep: what is refused, what a resume compares, what the search of an arm tries."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from raydistill.cli.sweeping.series import chosen, is_series
from raydistill.config import ConfigError
from raydistill.records.layout import EXPERIMENT_FILE, RESULTS_FILE
from raydistill.sweep.arms.finished import finished_result, is_whole, mark_complete
from raydistill.sweep.arms.phases import arm_space
from raydistill.sweep.arms.prepare import prepare_experiment


def prepared(folder, name="simreg/head-depth", scale="smoke", notes=None, **options):
    places = {"storage": folder / "runs", "artifacts": folder / "artifacts", "tracking_uri": "sqlite:///x.db"}
    write = (lambda line: None) if notes is None else notes.append
    return prepare_experiment(name, scale, notify=write, **(places | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search_space": "paper"}, "--search-space: an experiment says itself what it compares"),
        ({"baseline": ["simclr"]}, "--baseline: an experiment says itself"),
        ({"baseline_search": False}, "--baseline-search: an experiment says itself"),
        ({"preset": "cpu"}, "--preset: an experiment says itself"),
        ({"max_epochs": 3}, "--max-epochs: an experiment trains all of its arms"),
        ({"trials": 3}, "--trials: simreg/head-depth searches nothing; it has 3 arms"),
        (
            {"set": {"method.head_dept": 2}},
            "no arm of simreg/head-depth has such a setting; did you mean 'method.head_",
        ),
        ({"set": {"data.labelled": "digits"}}, "data.labelled: an experiment trains and scores on the same images"),
        ({"images": {"davis": "toy"}}, "--images davis=...: simreg/head-depth has no such images"),
        ({"set": {"eval.tasks": ["transfer:{mine}"]}}, "nobody says what images 'mine' are"),
        ({"set": {"eval.tasks": ["nois"]}}, "'nois' is unknown; did you mean 'noise'"),
        ({"set": {"data.batch_size": 4096}}, "data.batch_size = 4096: there are 600 images to train on"),
        ({"epoch": 3}, "epoch: there is no such option of a sweep; did you mean 'epochs'"),
    ],
)
def test_what_is_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, **options)


def test_a_sweep_is_named_after_its_experiment_and_scale(tmp_path):
    assert prepared(tmp_path).name == "simreg-head-depth-smoke-1"
    own = tmp_path / "My heads.yaml"
    own.write_text("{title: t, source: s, images: imagenet, metrics: [test_knn], arms: {one: {method: simclr}}}")
    assert prepared(tmp_path, str(own)).name == "My-heads-smoke-1"


def test_what_a_user_sets_is_taken_as_it_is(tmp_path):
    """A network of one's own is no name of the papers that stands for another."""
    chosen = {"method.backbone": "resnet18", "data.image_size": 16}
    plan = prepared(tmp_path, epochs=2, seeds=4, set=chosen)
    assert {arm.config.method.backbone for arm in plan.arms} == {"resnet18"}
    assert {arm.config.teacher.backbone for arm in plan.arms} == {"resnet10_w8"}
    assert (plan.epochs, plan.seeds, plan.image_size) == (2, 4, 16)


def test_a_resume_compares_the_arms_but_for_caches(tmp_path):
    plan = prepared(tmp_path)
    plan.store()
    replace(prepared(tmp_path, name="simreg/head-depth", set={"data.cache_gib": 1.0}), name=plan.name).check_unchanged()
    stored = yaml.safe_load((plan.directory / "sweep.yaml").read_text())
    del stored["experiment"]["arms"]["linear"]["train"]["lars_eta"]  # as of a version that did not have it
    (plan.directory / "sweep.yaml").write_text(yaml.safe_dump(stored))
    plan.check_unchanged()
    other = replace(prepared(tmp_path, epochs=2), name=plan.name)
    with pytest.raises(ConfigError, match=r"experiment\.arms\.linear\.train\.epochs: 1 -> 2"):
        other.check_unchanged()


def test_the_search_of_an_arm_has_what_the_file_leaves_open(tmp_path):
    plan = prepared(tmp_path, "ours/head-to-head")
    spaces = {arm.name: {p.path for p in arm_space(plan, arm).parameters} for arm in plan.arms}
    assert all("train.lr" in space for space in spaces.values())
    assert "method.lambda_kd" in spaces["dogo"]
    assert "method.tau_t" in spaces["seed"]
    for space in spaces.values():
        assert not {"method.backbone", "method.recipe", "method.queue_size", "train.optimizer"} & space
        assert not any(path.startswith(("data.", "teacher.")) for path in space)


def test_several_experiments_by_a_pattern():
    assert is_series("all")
    assert is_series("dogo/*")
    assert not is_series("dogo/grid")
    assert set(chosen("dogo/*")) < set(chosen("all"))
    with pytest.raises(ConfigError, match="no experiment is called so"):
        chosen("dogu/*")


@pytest.mark.parametrize(
    ("scores", "whole"),
    [
        ([[{"test_knn": 0.1}, {"test_knn": 0.2}], [{"test_knn": 0.3}, {"test_knn": 0.4}]], True),
        ([[{"test_knn": 0.1}, {"test_knn": 0.2}], [{"test_knn": 0.3}]], False),
        ([[{"test_knn": 0.1}, {"val_knn": 0.2}], [{"test_knn": 0.3}, {"test_knn": 0.4}]], False),
        ([[{"test_knn": 0.1}, {"test_knn": 0.2}]], False),
    ],
)
def test_an_experiment_is_whole_with_every_seed_of_every_arm(tmp_path, scores, whole):
    config = SimpleNamespace(eval=SimpleNamespace(trajectory=False))
    arms = [SimpleNamespace(name=name, config=config) for name in ("a", "b")]
    plan = SimpleNamespace(directory=tmp_path, seeds=2, arms=arms)
    assert not is_whole(plan)
    rows = [{"name": name, "scores": found} for name, found in zip("ab", scores, strict=False)]
    rows += [{"name": name, "scores": [{"test_knn": 0.1}]} for name in ("pixels", "untrained")]
    (tmp_path / RESULTS_FILE).write_text(json.dumps(rows))
    (tmp_path / EXPERIMENT_FILE).write_text("{}")
    assert not is_whole(plan), "MLflow may lack something"
    mark_complete(plan)
    assert is_whole(plan) == whole
    (tmp_path / EXPERIMENT_FILE).write_text(json.dumps({"complete": True, "teachers_of": {"teacher": ["a"]}}))
    assert not is_whole(plan), "a teacher has no row"


def test_a_finished_experiment_answers_from_its_folder(tmp_path, monkeypatch):
    """Its images are not opened, and other settings are refused all the same."""
    plan = prepared(tmp_path, "dogo/trajectories")
    plan.store()
    scores = [{"test_knn": 0.5}] * plan.seeds
    rows = [{"name": name, "settings": {}, "epochs": 3, "scores": scores} for name in ("simclr", "dogo")]
    rows += [{"name": name, "settings": {}, "epochs": 0, "scores": scores[:1]} for name in ("pixels", "untrained")]
    (plan.directory / RESULTS_FILE).write_text(json.dumps(rows))
    (plan.directory / EXPERIMENT_FILE).write_text("{}")
    (plan.directory / "table.md").write_text("the table\n")
    mark_complete(plan)
    assert finished_result(plan) is None, "the picture is missing"
    (plan.directory / "trajectories.png").write_bytes(b"")
    monkeypatch.setattr("raydistill.sweep.arms.prepare.preflight_arms", None)  # which opens the images
    places = {"storage": tmp_path / "runs", "artifacts": tmp_path / "artifacts", "tracking_uri": "sqlite:///x.db"}
    resumed = {"name": plan.name, "resume": True, **places}
    again = prepare_experiment("dogo/trajectories", "smoke", **resumed)
    found = finished_result(again)
    assert found.table == "the table"
    assert [row.name for row in found.rows] == ["simclr", "dogo", "pixels", "untrained"]
    with pytest.raises(ConfigError, match=r"experiment\.arms\.dogo\.train\.epochs: 3 -> 4"):
        prepare_experiment("dogo/trajectories", "smoke", **resumed, epochs=4)

"""A sweep without a teacher makes one, once; the next finds it. Exits are scored; teacher settings are searched."""

import pytest
import yaml
from mlflow import MlflowClient

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.records.journal import Journal
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.sweep.workers.local_launcher import LocalLauncher

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
DATA = {"limit": 60, "batch_size": 16, "image_size": 8}
TEACHER = {"backbone": "resnet10_w8", "epochs": 2}
METHODS = {
    "seed": {"backbone": "resnet10_w4", "hidden_dim": 8, "queue_size": 16},
    "sssd": {"backbone": "resnet10_w4", "clusters": 4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teacher-sweeps")


def sweep(folder, name, method, parameters, *, evaluation=(), **teacher):
    from raydistill.sweep.run import run_sweep

    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"method": "grid", "parameters": parameters}))
    base = {
        "method": {"name": method, **METHODS[method]},
        "data": DATA,
        "teacher": {**TEACHER, **teacher},
        "train": {"epochs": 1, "lr": 0.01},
        "eval": {"probe_epochs": 3, **dict(evaluation)},
    }
    space = load_space(path, method, {}, base)
    settings = SweepSettings(
        name=name,
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=with_own_teacher(config.load(base)),
        space=space,
        trials=len(space.grid()),
        seeds=1,
        threads=1,
        artifacts=folder / "artifacts",
    )
    return settings, run_sweep(settings, launcher=LocalLauncher)


def trials(settings):
    return Journal(settings.directory / "journal.jsonl").trials


def kept(folder, kind):
    return [entry for entry in Store(folder / "artifacts").entries() if entry.kind == kind]


TEMPERATURES = {"method.tau_t": {"values": [0.01, 0.1]}}


@pytest.fixture(scope="module")
def first(ray_cluster, folder):
    return sweep(folder, "first", "seed", TEMPERATURES)


def test_the_teacher_is_a_trial_of_its_own_and_an_artifact(first, folder):
    settings, result = first
    (teacher,) = [record for key, record in trials(settings).items() if key.startswith("teacher-")]
    assert teacher.outcome == "finished"
    assert teacher.epochs == 2
    (entry,) = kept(folder, "teacher")
    assert teacher.key == f"teacher-{entry.key}"
    assert entry.made_of["method"]["backbone"] == "resnet10_w8"
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    (run,) = client.search_runs([experiment], "tags.`raydistill.role` = 'teacher'")
    assert run.info.status == "FINISHED"
    assert "val_knn" in run.data.metrics
    assert [row.name for row in result.rows][:2] == ["seed", "simclr-tuned"]
    assert "teacher" not in {row.name.partition("-")[0] for row in result.rows}


def test_the_next_sweep_finds_it(first, folder):
    settings, _ = sweep(folder, "second", "seed", {"method.tau_s": {"values": [0.1]}})
    assert not any(key.startswith("teacher-") for key in trials(settings))
    assert len(kept(folder, "teacher")) == 1


def test_a_searched_teacher_setting_trains_one_teacher_for_each_value(first, folder):
    settings, _ = sweep(folder, "third", "seed", {"teacher.seed": {"values": [0, 1]}})
    assert sum(key.startswith("teacher-") for key in trials(settings)) == 1
    assert len(kept(folder, "teacher")) == 2


def test_a_sweeps_winner_can_teach(first, folder):
    from raydistill.planning.prepare import locate

    settings, _ = first
    store = Store(folder / "artifacts")
    key = locate(store, str(settings.directory), config.TeacherConfig(), 8)
    assert store.open(key.removeprefix("artifact:")).exists()
    assert locate(store, str(settings.directory / "winner"), config.TeacherConfig(), 8) == key


def test_every_exit_is_scored_and_their_ensemble(first, folder):
    _, result = sweep(
        folder, "exits", "sssd", {"method.labels": {"values": ["kmeans"]}}, evaluation={"encoders": "all"}
    )
    (scores,) = result.rows[0].scores
    for suffix in ("", "_exit_1", "_exit_2", "_exit_3"):
        assert 0 <= scores[f"test_probe{suffix}"] <= 1
    assert 0 <= scores["test_probe_ensemble"] <= 1
    assert len(kept(folder, "labels")) == 1


def test_a_teacher_that_fails_stops_the_sweep_with_its_cause(ray_cluster, folder, monkeypatch):
    from raydistill.planning import resolve
    from raydistill.sweep.driver import SweepError

    fatal = {"method": {"name": "simclr"}, "train": {"lr": 1e30}}
    monkeypatch.setattr(resolve, "load_preset", lambda method, name: fatal)
    with pytest.raises(SweepError, match=r"the teacher teacher-\w+ failed: .*nan"):
        sweep(folder, "failing", "seed", TEMPERATURES, seed=7)

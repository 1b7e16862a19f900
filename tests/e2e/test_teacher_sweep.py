"""A sweep without a teacher makes one, once; the next finds it. Exits are scored; teacher settings are searched."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from mlflow import MlflowClient

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import trained_epochs
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
    "simreg": {"backbone": "resnet10_w4", "head_depth": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teacher-sweeps")


def planned(folder, name, method, parameters, *, evaluation=(), options=(), **teacher):
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
    return SweepSettings(
        name=name,
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=with_own_teacher(config.load(base)),
        space=space,
        trials=len(space.grid()),
        threads=1,
        artifacts=folder / "artifacts",
        **{"seeds": 1, **dict(options)},
    )


def sweep(folder, name, method, parameters, **wanted):
    from raydistill.sweep.run import run_sweep

    settings = planned(folder, name, method, parameters, **wanted)
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
    assert entry.provenance["method"]["backbone"] == "resnet10_w8"
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    (run,) = client.search_runs([experiment], "tags.`raydistill.role` = 'teacher'")
    assert run.info.status == "FINISHED"
    assert "val_knn" in run.data.metrics
    winner, *arms = [row.name for row in result.rows][:4]
    ends = ("same-settings", "default", "own-augmentation")
    assert (winner, set(arms)) == ("seed", {f"simclr-{end}" for end in ends})
    (shown,) = [row for row in result.rows if row.name.partition("-")[0] == "teacher"]
    assert (shown.name, shown.epochs, shown.settings) == ("teacher", 2, {"teacher.backbone": "resnet10_w8"})
    assert {"val_knn", "test_knn", "test_probe"} <= set(shown.scores[0])


def test_the_next_sweep_finds_it_and_every_exit_is_scored_and_their_ensemble(first, folder):
    options = {"evaluation": {"encoders": "all"}}
    settings, result = sweep(folder, "exits", "sssd", {"method.labels": {"values": ["kmeans"]}}, **options)
    assert not any(key.startswith("teacher-") for key in trials(settings))
    assert len(kept(folder, "teacher")) == 1
    (scores,) = result.rows[0].scores
    for suffix in ("", "_exit_1", "_exit_2", "_exit_3"):
        assert 0 <= scores[f"test_probe{suffix}"] <= 1
    assert 0 <= scores["test_probe_ensemble"] <= 1
    assert len(kept(folder, "labels")) == 1


def test_a_searched_teacher_setting_trains_one_teacher_for_each_value(first, folder):
    settings, _ = sweep(folder, "third", "seed", {"teacher.seed": {"values": [0, 1]}})
    assert sum(key.startswith("teacher-") for key in trials(settings)) == 1
    assert len(kept(folder, "teacher")) == 2


def test_teachers_of_several_kinds_are_trained_first_and_each_once(ray_cluster, folder):
    kinds = {"teacher.backbone": ["resnet10_w4", "resnet10_w6"], "teacher.epochs": [1, 2], "teacher.count": [1, 2]}
    before = len(kept(folder, "teacher"))
    settings, _ = sweep(folder, "kinds", "simreg", {path: {"values": values} for path, values in kinds.items()})
    records = trials(settings)
    taught = [record for key, record in records.items() if key.startswith("teacher-")]
    made = {(r.config["method"]["backbone"], r.epochs, r.config["train"]["seed"]) for r in taught}
    assert made == {(name, epochs, seed) for name in kinds["teacher.backbone"] for epochs in (1, 2) for seed in (0, 1)}
    assert len(taught) == len(kept(folder, "teacher")) - before == 8
    searched = [record for key, record in records.items() if key.startswith("t0")]
    assert {record.outcome for record in searched} == {"finished"}
    assert len({record.spec.teachers for record in searched}) == len(searched) == 8
    assert {len(record.spec.teachers) for record in searched} == {1, 2}


def test_a_sweeps_winner_can_teach(first, folder):
    from raydistill.planning.prepare import locate

    settings, _ = first
    store = Store(folder / "artifacts")
    key = locate(store, str(settings.directory), config.TeacherConfig(), 8)
    assert store.open(key.removeprefix("artifact:")).exists()
    assert locate(store, str(settings.directory / "winner"), config.TeacherConfig(), 8) == key


def test_several_teachers_have_rows_of_their_own_and_are_redrawn_for_each_seed(ray_cluster, folder):
    options = {"seeds": 2, "redraw_teachers": True}
    settings, result = sweep(
        folder, "several", "simreg", {"method.head_depth": {"values": [1]}}, options=options, count=2, seed=20
    )
    taught = {key: record for key, record in trials(settings).items() if key.startswith("teacher-")}
    assert [record.config["train"]["seed"] for record in taught.values()] == [20, 21, 22, 23]
    assert {record.outcome for record in taught.values()} == {"finished"}
    runs = [trials(settings)[key].spec.teachers for key in ("t0000", "final-simreg-seed1")]
    assert [f"teacher-{key}" for pair in runs for key in pair] == list(taught)
    rows = {row.name: row.scores for row in result.rows}
    assert [len(rows[name]) for name in ("simreg", "teacher-1", "teacher-2")] == [2, 2, 2]
    for name in ("teacher-1", "teacher-2"):
        assert all({"val_knn", "test_knn", "test_probe"} <= set(score) for score in rows[name])
    assert rows["teacher-1"] != rows["teacher-2"]


def test_each_seed_has_clusters_of_its_own_teacher(ray_cluster, folder):
    before = {entry.key for entry in kept(folder, "labels")}
    options = {"seeds": 2, "redraw_teachers": True}
    settings, result = sweep(folder, "clusters", "sssd", {"method.alpha": {"values": [0.3]}}, options=options, seed=30)
    specs = [trials(settings)[key].spec for key in ("t0000", "final-sssd-seed1")]
    assert len({spec.teachers for spec in specs}) == 2
    assert {spec.labels for spec in specs} == {entry.key for entry in kept(folder, "labels")} - before
    assert [spec.config.method.label_seed for spec in specs] == [0, 1]
    (baseline,) = [
        trials(settings)[key].config for key in trials(settings) if key.startswith("final-simclr-default-seed1")
    ]
    assert baseline["teacher"]["seed"] == 30
    assert [len(row.scores) for row in result.rows if row.name == "teacher"] == [2]


def test_a_teacher_ends_when_its_score_has_settled(ray_cluster, folder, capsys):
    """Of 60 images the standard error is so large that every score has settled soon."""
    settings, result = sweep(
        folder, "settled", "seed", {"method.tau_s": {"values": [0.2]}}, patience=1, epochs=30, seed=40
    )
    (teacher,) = [record for key, record in trials(settings).items() if key.startswith("teacher-")]
    assert teacher.outcome == "finished"
    assert teacher.epochs == teacher.last("last_epoch") < 30
    assert teacher.config["train"]["patience"] == 1
    assert teacher.message == f"its score has settled, val_knn {teacher.last('val_knn'):.4f}"
    assert f"{teacher.key} finished after {teacher.epochs} of 30 epochs: {teacher.message}" in capsys.readouterr().out
    (row,) = [row for row in result.rows if row.name == "teacher"]
    assert row.epochs == teacher.epochs
    assert trained_epochs(Store(folder / "artifacts"), teacher.key.removeprefix("teacher-")) == teacher.epochs


def test_a_teacher_that_fails_stops_the_sweep_with_its_cause(ray_cluster, folder, monkeypatch):
    from raydistill.planning import resolve
    from raydistill.sweep.driver import SweepError

    fatal = {"method": {"name": "simclr"}, "train": {"lr": 1e30}}
    monkeypatch.setattr(resolve, "load_preset", lambda method, name: fatal)
    with pytest.raises(SweepError, match=r"the teacher teacher-\w+ failed: .*nan"):
        sweep(folder, "failing", "seed", TEMPERATURES, seed=7)


@pytest.fixture(scope="module")
def interrupted(ray_cluster, folder):
    """A sweep that was interrupted after its search: its teacher is trained, its final is not."""
    from raydistill.sweep import run as module

    settings = planned(folder, "interrupted", "seed", TEMPERATURES, seed=11)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "make_final_configs", interrupt)
        module.run_sweep(settings, launcher=LocalLauncher)
    return settings


def resumed(settings, home):
    """A copy of the sweep, resumed. Returns: what its trials and its final were."""
    from raydistill.sweep.run import run_sweep

    settings = replace(settings, storage=home, tracking_uri=f"sqlite:///{home}/mlflow.db")
    run_sweep(settings, resume=True, launcher=LocalLauncher)
    return trials(settings)


def copied(settings, home):
    shutil.copytree(settings.directory, home / settings.name, symlinks=True)
    return home / settings.name


def test_a_preset_that_changes_before_a_resume_changes_nothing(interrupted, folder, tmp_path, monkeypatch):
    from raydistill import presets

    copied(interrupted, tmp_path)
    before, there = trials(interrupted), len(kept(folder, "teacher"))
    known = presets.load_preset("simclr", "default").get("train", {}).get("lr", config.TrainConfig().lr)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "simclr.yaml").write_text("default: {train: {lr: 0.123}}")
    monkeypatch.setattr(presets, "HERE", tmp_path / "presets")
    after = resumed(interrupted, tmp_path)
    assert len(kept(folder, "teacher")) == there, "no other teacher was trained"
    taught = {record.spec.teachers for record in [*before.values(), *after.values()]} - {()}
    assert len(taught) == 1
    assert {key: after[key].config for key in before} == {key: record.config for key, record in before.items()}
    assert after["final-simclr-default-seed0"].config["train"]["lr"] == known


def test_a_sweep_of_before_goes_on(interrupted, folder, tmp_path):
    """Without written decisions, and with a trial that was never ended."""
    place, there = copied(interrupted, tmp_path), len(kept(folder, "teacher"))
    (place / "plan.json").unlink()
    events = [json.loads(line) for line in (place / "journal.jsonl").read_text().splitlines()]
    last = max(event["key"] for event in events if event["key"].startswith("t0"))
    kept_events = [event for event in events if event["key"] != last or event["event"] == "trial"]
    plain = [{k: v for k, v in event.items() if k not in ("teachers", "labels")} for event in kept_events]
    assert len(plain) < len(events)
    (place / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in plain))
    after = resumed(interrupted, tmp_path)
    assert {record.outcome for record in after.values()} == {"finished"}
    assert len(kept(folder, "teacher")) == there
    assert (place / "plan.json").exists()

"""Tune's schedulers and Optuna's samplers on real packs: whole small sweeps, without Ray Train."""

import json

import pytest
import yaml
from helpers.builders import runs
from mlflow import MlflowClient

from raydistill import config
from raydistill.records.budget import Limits
from raydistill.records.journal import read_records
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import LocalLauncher
from raydistill.training.checkpoint_files import finished
from raydistill.training.checkpoints import latest_checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

DOGO = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8}
SIMCLR = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 16, "projection_dim": 8}
DATA = {"limit": 48, "batch_size": 16, "image_size": 8}
LR = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}


def plan(folder, space, *, method=SIMCLR, epochs=4, name="s", **values):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(space))
    base = {"method": method, "data": DATA, "train": {"epochs": epochs}, "eval": {"probe_epochs": 1}}
    return SweepSettings(
        name=name,
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(base),
        space=load_space(path, method["name"], {}),
        threads=1,
        **{"seeds": 1, "learners": 2, **values},
    )


def run(settings):
    from raydistill.sweep.run import run_sweep

    result = run_sweep(settings, launcher=LocalLauncher)
    records = read_records(settings.directory / "journal.jsonl")
    return result, {key: record for key, record in records.items() if key.startswith("t0")}


def test_a_population_copies_weights_and_says_so_in_mlflow(tmp_path):
    space = {
        "method": "random",
        "metric": {"name": "val_knn"},
        "population": {"type": "pbt", "interval": 2, "resample": 0},
        "parameters": {"train.lr": LR, "method.tau_kd": {"values": [0.05, 0.1, 0.2, 0.5, 1.0]}},
    }
    settings = plan(tmp_path, space, method=DOGO, epochs=5, trials=5)
    _, trials = run(settings)
    assert {t.outcome for t in trials.values()} == {"finished"}
    assert all(sorted(t.results) == [1, 2, 3, 4, 5] for t in trials.values())
    copied = {key: t for key, t in trials.items() if t.copies}
    assert copied
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    for key, trial in copied.items():
        copy = trial.copies[-1]
        assert copy.epoch in (2, 4)
        assert copy.donor in trials
        assert copy.donor != key
        (run_,) = client.search_runs([experiment], f"tags.`raydistill.trial` = '{key}'")
        assert f"copied {copy.donor} at epoch {copy.epoch}" in run_.data.tags["raydistill.copies"]
        assert run_.data.metrics["setting/train.lr"] == pytest.approx(trial.settings["train.lr"])
        # Later epochs were trained with the new settings, which lie in the space.
        assert settings.space.contains(trial.settings)
        assert trial.config["train"]["lr"] == trial.settings["train.lr"]
        stored = yaml.safe_load((settings.directory / "trials" / key / "config.yaml").read_text())
        assert stored["train"]["lr"] == pytest.approx(trial.settings["train.lr"])


@pytest.mark.parametrize(
    ("space", "count", "outcomes"),
    [
        ({"method": "random", "early_terminate": {"type": "hyperband", "eta": 2}}, 7, {"finished", "stopped_early"}),
        ({"method": "bayes", "early_terminate": {"type": "bohb", "eta": 2}}, 5, {"finished", "stopped_early"}),
        ({"method": "bayes", "sampler": "gp", "early_terminate": {"type": "median", "min_iter": 1}}, 5, {"finished"}),
        ({"method": "random", "population": {"type": "pb2", "interval": 2}}, 5, {"finished"}),
    ],
    ids=["hyperband", "bohb", "gp-median", "pb2"],
)
@pytest.mark.fault(21)
def test_every_search_ends_with_each_trial_told_what_became_of_it(tmp_path, space, count, outcomes):
    parameters = {"train.lr": LR, "method.tau_c": {"min": 0.05, "max": 1.0}}
    settings = plan(tmp_path, {**space, "parameters": parameters}, trials=count)
    result, trials = run(settings)
    assert len(trials) == count
    assert outcomes <= {t.outcome for t in trials.values()} <= {"finished", "stopped_early"}
    assert all(sorted(t.results) == list(range(1, t.epochs + 1)) for t in trials.values()), "no epoch lost or repeated"
    shown = {row.name for row in result.rows}
    assert not {key for key, t in trials.items() if t.outcome == "stopped_early"} & shown
    if space["method"] == "bayes":
        states = told(settings)
        expected = {"finished": "COMPLETE", "stopped_early": "PRUNED"}
        assert states == {key: expected[t.outcome] for key, t in trials.items()}


def told(settings):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(settings.directory / "optuna.journal")))
    study = optuna.load_study(study_name=settings.name, storage=storage)
    tried = (trial for trial in study.trials if not trial.user_attrs.get("repeated"))
    return {trial.user_attrs.get("key", "earlier"): trial.state.name for trial in tried}


def test_two_objectives_print_their_front(tmp_path):
    space = {
        "method": "bayes",
        "metrics": [{"name": "val_knn"}, {"name": "student_parameters"}],
        "parameters": {"method.backbone": {"values": ["resnet10_w4", "resnet10_w8", "resnet10_w16"]}, "train.lr": LR},
    }
    settings = plan(tmp_path, space, trials=6, epochs=2)
    result, trials = run(settings)
    front = [line.split("|")[1].strip() for line in result.table.split("\n\n")[0].splitlines()[2:]]
    points = {k: (t.last("val_knn"), -t.last("student_parameters")) for k, t in trials.items()}
    for key, point in points.items():
        beaten = any(all(a >= b for a, b in zip(o, point, strict=True)) and o != point for o in points.values())
        assert not (key in front and beaten)
        assert key in front or any(all(a >= b for a, b in zip(points[f], point, strict=True)) for f in front)
    assert "student_parameters (lower)" in result.table
    selected = [row for row in result.rows if row.name.startswith("simclr")]
    assert len(selected) == min(len(front), 5)
    assert all("test_knn" in score for row in selected for score in row.scores)
    assert set(told(settings).values()) == {"COMPLETE"}


def test_a_warm_start_takes_results_where_they_count_and_hints_elsewhere(tmp_path):
    space = {"method": "bayes", "parameters": {"train.lr": LR}}
    first = plan(tmp_path, space, trials=3, epochs=1, name="first")
    rates = {"t0000": (0.001, 0.25), "t0001": (0.002, 0.75), "t0002": (0.003, 0.5)}
    runs.searched(first, {key: ({"train.lr": rate}, {"val_knn": score}) for key, (rate, score) in rates.items()})
    again = plan(tmp_path, space, trials=2, epochs=1, name="again", warm_start=(first.directory,))
    run(again)
    assert sorted(told(again).items()) == [("earlier", "COMPLETE"), ("t0000", "COMPLETE"), ("t0001", "COMPLETE")]
    longer = plan(tmp_path, space, trials=3, epochs=2, name="longer", warm_start=(first.directory,))
    _, trials = run(longer)
    assert "earlier" not in told(longer), "one epoch is not two"
    best = max(read_records(first.directory / "journal.jsonl").values(), key=lambda r: r.last("val_knn") or 0)
    assert best.config["train"]["lr"] in [t.settings["train.lr"] for t in trials.values()]


def test_a_budget_ends_the_search_and_the_final_still_runs(tmp_path):
    space = {"method": "random", "parameters": {"train.lr": LR}}
    limits = Limits(epochs=42, price_per_hour=7.2)
    settings = plan(tmp_path, space, trials=30, epochs=4, seeds=2, method=DOGO, limits=limits)
    result, trials = run(settings)
    assert 2 <= len(trials) < 30
    assert {t.outcome for t in trials.values()} == {"finished", "stopped_early"}
    stopped = [t for t in trials.values() if t.outcome == "stopped_early"]
    assert all("42 trial-epochs" in t.message for t in stopped)
    assert len(result.rows[0].scores) == 2
    assert {row.name.partition("-")[0] for row in result.rows} >= {"dogo", "simclr"}
    kept = json.loads((settings.directory / "budget.json").read_text())
    assert kept["epochs"] >= 4


@pytest.mark.fault(21)
def test_checkpoints_stay_within_their_limit_and_cma_es_is_told_of_all(tmp_path):
    parameters = {"train.lr": LR, "method.tau_c": {"min": 0.05, "max": 1.0}}
    space = {"method": "bayes", "sampler": "cmaes", "parameters": parameters}
    one = runs.checkpoint_bytes(plan(tmp_path, space, trials=6).base, tmp_path / "one")
    tight = plan(tmp_path, space, trials=6, epochs=2, learners=2, name="tight", checkpoints_gib=3.5 * one / 2**30)
    _, trials = run(tight)
    assert told(tight) == dict.fromkeys(trials, "COMPLETE")
    left = [key for key in trials if finished(tight.directory / "trials" / key)]
    best = max(trials.values(), key=lambda t: t.last("val_knn")).key
    assert best in left
    assert len(left) <= 3
    sizes = {file.stat().st_size for key in left for file in (tight.directory / "trials" / key).glob("*.safetensors")}
    assert all(size == pytest.approx(one, rel=0.05) for size in sizes), "the limit holds three and a half of these"
    assert latest_checkpoint(tight.directory / "trials" / best)["epoch"] == 2

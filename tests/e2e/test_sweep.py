"""Whole sweeps on small data: one cluster for the module, and a driver that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import commands
from helpers.servers.mlflow_runs import held
from mlflow import MlflowClient

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import LAUNCHER, LocalLauncher
from raydistill.tracking.backfill import backfill
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.failures import ERROR_FILE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
DATA = {"limit": 60, "batch_size": 16, "image_size": 8}
TINY = {
    "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
    "data": DATA,
    "eval": {"probe_epochs": 3, "encoders": "all"},
}
LOCAL = {LAUNCHER: "local"}
GOOD, FATAL = 0.01, 1e30  # Such a learning rate makes the weights infinite with the first update.


def plan(folder, space, *, epochs=3, name="s", **values):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space))
    base = {**TINY, "train": {"epochs": epochs, "lr": GOOD}}
    return SweepSettings(
        name=name,
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(base),
        space=load_space(path, "dogo", {}),
        threads=1,
        **values,
    )


def runs_of(folder, name="s"):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("raydistill")
    runs = client.search_runs([experiment.experiment_id], f"tags.`raydistill.sweep` = '{name}'")
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return client, parent, {run.info.run_name: run for run in runs if run is not parent}


class TestAWholeSweep:
    """Three trials, one of which fails; ASHA stops another; everything is looked at once."""

    @pytest.fixture(scope="class")
    def done(self, ray_cluster, tmp_path_factory):
        from raydistill.sweep.run import run_sweep

        folder = tmp_path_factory.mktemp("sweep")
        space = {
            "method": "bayes",
            "metric": {"name": "val_knn", "goal": "maximize"},
            "early_terminate": {"type": "asha", "min_iter": 1, "eta": 2},
            "parameters": {
                "train.lr": {"values": [GOOD, FATAL]},
                "method.tau_kd": {"distribution": "log_uniform_values", "min": 0.05, "max": 1.0},
            },
        }
        settings = plan(folder, space, trials=6, seeds=2, learners=3)
        return folder, settings, run_sweep(settings)

    def test_every_trial_ended_and_the_reasons_are_told_apart(self, done):
        folder, settings, _ = done
        trials = Journal(settings.directory / "journal.jsonl").trials
        searched = {key: t for key, t in trials.items() if not key.startswith("final-")}
        assert len(searched) == 6
        outcomes = {t.outcome for t in searched.values()}
        assert None not in outcomes
        assert {"finished", "failed"} <= outcomes
        _, parent, children = runs_of(folder)
        status = {"finished": "FINISHED", "stopped_early": "KILLED", "failed": "FAILED"}
        assert set(children) == set(trials)
        for key, trial in trials.items():
            run = children[key]
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert run.data.tags["raydistill.outcome"] == trial.outcome
            assert run.info.status == status[trial.outcome]
        assert parent.info.status == "FINISHED"

    @pytest.mark.fault(1)
    def test_a_nan_fails_its_trial_in_a_step_and_no_other(self, done):
        _, settings, _ = done
        trials = Journal(settings.directory / "journal.jsonl").trials
        fatal = [t for t in trials.values() if t.config["train"]["lr"] == FATAL]
        assert fatal
        for trial in fatal:
            assert trial.outcome == "failed"
            assert trial.epochs == 0
            assert "nan" in trial.message
            assert "epoch 0, step 1" in trial.message
            told = (settings.directory / "trials" / trial.key / ERROR_FILE).read_text()
            assert told.startswith("Traceback")
            assert trial.message in told
        assert all(t.outcome != "failed" for t in trials.values() if t.config["train"]["lr"] == GOOD)

    @pytest.mark.fault(1)
    @pytest.mark.fault(21)
    def test_optuna_is_told_what_became_of_each(self, done):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        _, settings, _ = done
        storage = JournalStorage(JournalFileBackend(str(settings.directory / "optuna.journal")))
        study = optuna.load_study(study_name=settings.name, storage=storage)
        states = {t.user_attrs["key"]: t.state.name for t in study.trials}
        told = {"finished": "COMPLETE", "stopped_early": "PRUNED", "failed": "FAIL"}
        trials = Journal(settings.directory / "journal.jsonl").trials
        assert states == {k: told[t.outcome] for k, t in trials.items() if not k.startswith("final-")}

    def test_metrics_parameters_and_artifacts_are_in_mlflow(self, done):
        folder, settings, _ = done
        client, parent, children = runs_of(folder)
        trials = Journal(settings.directory / "journal.jsonl").trials
        for key, trial in trials.items():
            run = children[key]
            options = trial.config["method"]
            peers = options["name"] == "dogo"
            assert run.data.params["train.lr"] == str(trial.config["train"]["lr"])
            assert run.data.params.get("method.tau_kd") == (str(options["tau_kd"]) if peers else None)
            for metric in ("loss", "val_knn", *(("ssl_1", "kd_2", "val_knn_peer_2") if peers else ())):
                history = client.get_metric_history(run.info.run_id, metric)
                assert [(p.step, p.value) for p in history] == [
                    (e, pytest.approx(m[metric])) for e, m in trial.results.items() if metric in m
                ]
            files = {a.path for a in client.list_artifacts(run.info.run_id)}
            assert "config.yaml" in files
            assert (ERROR_FILE in files) == (trial.outcome == "failed")
        names = [a.path for a in client.list_artifacts(parent.info.run_id)]
        assert {"winner.yaml", "table.md", "results.json"} <= set(names)
        assert {"winner_test_knn", "pixels_test_knn", "untrained_test_probe"} <= set(parent.data.metrics)
        selected = children["final-simclr-same-settings-seed1"]
        assert "test_knn" in selected.data.metrics
        assert [a.path for a in client.list_artifacts(selected.info.run_id, "checkpoint")]

    def test_another_mlflow_is_told_the_same_of_the_folder(self, done):
        folder, settings, _ = done
        elsewhere = f"sqlite:///{folder}/elsewhere/mlflow.db"
        backfill(settings.directory, elsewhere)
        first, second = held(settings.tracking_uri, "s"), held(elsewhere, "s")
        for run in first:
            began, told = first[run].pop("times")[0], second[run].pop("times")[0]
            assert told == pytest.approx(began, abs=30), "a trial begins when its group has room"
            assert second[run] == first[run]
        assert set(first) == set(second)

    def test_the_table_has_winner_and_baseline_with_seeds_and_test_only_there(self, done):
        _, settings, result = done
        winner, *rest = result.rows
        assert winner.name == "dogo"
        baselines = [row for row in rest if row.name.startswith("simclr")]
        assert baselines
        for row in [winner, *baselines]:
            assert len(row.scores) == 2
            assert all({"val_knn", "test_knn", "test_probe"} <= set(score) for score in row.scores)
        others = [row for row in rest if row.name.startswith("t0")]
        pixels, untrained = (next(row for row in rest if row.name == name) for name in ("pixels", "untrained"))
        assert (len(pixels.scores), len(untrained.scores)) == (1, 2)
        assert all("test_probe" in score for score in pixels.scores + untrained.scores)
        assert rest[len(rest) - len(others) :] == others, "references stand before the runners-up"
        assert all("test_knn" not in score for row in others for score in row.scores)
        assert all(row.epochs == settings.epochs for row in [winner, *baselines, *others])
        assert {tuple(row.settings) for row in [winner, *others]} == {("method.tau_kd", "train.lr")}, "all that varied"
        assert "| dogo" in result.table
        assert "±" in result.table

    def test_early_stopped_trials_are_not_in_the_table(self, done):
        _, settings, result = done
        trials = Journal(settings.directory / "journal.jsonl").trials
        shown = {row.name for row in result.rows}
        assert not {k for k, t in trials.items() if t.outcome != "finished"} & shown

    def test_the_winner_trained_alone_is_the_same_bit_for_bit(self, done, tmp_path):
        _, settings, result = done
        code = (
            "import sys; from raydistill.cli import main\n"
            "main(['train', sys.argv[1], '--out', sys.argv[2], '--threads', '1'])"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, str(result.winner), str(tmp_path)]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=120)
        alone = latest_checkpoint(tmp_path)
        _, parent, _ = runs_of(settings.storage.parent)
        key = parent.data.tags["raydistill.winner"]
        packed = latest_checkpoint(settings.directory / "trials" / key)
        assert all((alone["method"][name] == packed["method"][name]).all() for name in packed["method"])

    @pytest.mark.fault(4)
    def test_resuming_a_finished_sweep_runs_nothing_again(self, done):
        from raydistill.sweep.run import run_sweep

        folder, settings, result = done
        before = (settings.directory / "journal.jsonl").read_bytes()
        references = (settings.directory / "references.json").stat().st_mtime_ns
        again = run_sweep(settings, resume=True)
        assert (settings.directory / "journal.jsonl").read_bytes() == before
        assert again.table == result.table
        assert (settings.directory / "references.json").stat().st_mtime_ns == references
        _, _, children = runs_of(folder)
        assert set(children) == set(Journal(settings.directory / "journal.jsonl").trials)


def test_a_grid_runs_each_point_once(ray_cluster, tmp_path):
    from raydistill.sweep.run import run_sweep

    space = {
        "method": "grid",
        "metric": {"name": "val_knn"},
        "parameters": {"method.tau_kd": {"values": [0.1, 0.5]}, "data.batch_size": {"values": [16, 20]}},
    }
    settings = plan(tmp_path, space, epochs=1, trials=4, seeds=1)
    run_sweep(settings, launcher=LocalLauncher)
    trials = Journal(settings.directory / "journal.jsonl").trials
    points = [tuple(t.settings.values()) for k, t in trials.items() if not k.startswith("final-")]
    assert sorted(points) == [(16, 0.1), (16, 0.5), (20, 0.1), (20, 0.5)]
    assert {t.outcome for t in trials.values()} == {"finished"}


@pytest.mark.fault(22)
def test_a_changed_space_is_refused_with_the_difference(tmp_path):
    def space(values):
        return {"method": "grid", "metric": {"name": "val_knn"}, "parameters": {"method.tau_kd": {"values": values}}}

    plan(tmp_path, space([0.1, 0.5]), trials=2).store()
    changed = plan(tmp_path, space([0.1, 0.2]), trials=2)
    with pytest.raises(config.ConfigError, match=r"method.tau_kd.values: \[0.1, 0.5\] -> \[0.1, 0.2\]"):
        changed.check_start(resume=True)
    plan(tmp_path, space([0.1, 0.5]), trials=2).check_start(resume=True)
    with pytest.raises(config.ConfigError, match="--warm-start s to begin with what this one found"):
        changed.check_start(resume=True)
    with pytest.raises(config.ConfigError, match="seeds: 3 -> 2"):
        plan(tmp_path, space([0.1, 0.5]), trials=3, seeds=2).check_start(resume=True)
    plan(tmp_path, space([0.1, 0.5]), trials=3).check_start(resume=True)
    with pytest.raises(config.ConfigError, match="add --resume"):
        changed.check_start(resume=False)


def typed(folder, *arguments, method="dogo"):
    """What is typed behind `sweep.py`."""
    tau = "tau_kd" if method == "dogo" else "tau_c"
    (folder / "space.yaml").write_text(
        "method: random\nmetric: {name: val_knn, goal: maximize}\n"
        f"parameters: {{method.{tau}: {{values: [0.05, 0.1, 0.2, 0.5, 1.0]}}}}\n"
    )
    backbone = (
        {"method.backbones": "[resnet10_w4, resnet10_w4]"} if method == "dogo" else {"method.backbone": "resnet10_w4"}
    )
    tiny = {**backbone, **{f"data.{k}": v for k, v in DATA.items()}}
    fixed = [f"--set={key}={value}" for key, value in tiny.items()]
    return [
        "--method",
        method,
        "--name",
        "s",
        "--search-space",
        "space.yaml",
        "--seeds",
        "1",
        *fixed,
        *arguments,
    ]


@pytest.mark.fault(2)
def test_when_every_trial_fails_the_cause_is_one_line_and_there_is_no_best(ray_cluster, tmp_path):
    arguments = typed(tmp_path, "--trials", "2", "--epochs", "1", f"--set=train.lr={FATAL}")
    done = commands.run(*arguments, program="sweep.py", cwd=tmp_path, **LOCAL)
    assert done.returncode == 1, done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert "2 of 2 trials failed" in error[0]
    for key in ("t0000", "t0001"):
        assert f"; traceback: {tmp_path / 'runs' / 's' / 'trials' / key / ERROR_FILE}\n" in done.stdout
    assert "nan" in error[0]
    assert "Traceback" not in done.stderr
    assert "best" not in done.stdout
    assert "| dogo" not in done.stdout


@pytest.mark.fault(4)
@pytest.mark.timeout(600)
def test_a_driver_killed_three_times_gives_the_table_of_one_that_was_not(ray_cluster, tmp_path):
    """One learner at a time, so that what a trial sees does not depend on when its neighbours came.

    The first to be killed has a worker group of Ray Train, all others the local launcher. Those that are not killed
    use the cluster of this process.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    size = ["--trials", "3", "--epochs", "5", "--learners", "1", "--threads", "1"]
    arguments = {folder: typed(folder, *size, method="simclr") for folder in (whole, cut)}
    done = commands.run(*arguments[whole], program="sweep.py", cwd=whole, **LOCAL)
    assert done.returncode == 0, done.stderr
    events = len((whole / "runs" / "s" / "journal.jsonl").read_text().splitlines())
    journal = cut / "runs" / "s" / "journal.jsonl"
    moments = sorted(random.Random().sample(range(1, events), 3))
    print(f"killed after {moments} of {events} events")
    known = {}
    for number, moment in enumerate(moments):
        again = ["--resume"] if number else []
        environment = os.environ | (LOCAL if number else {})
        command = [sys.executable, str(ROOT / "sweep.py"), *arguments[cut], *again]
        driver = subprocess.Popen(
            command, cwd=cut, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_events(journal, moment, driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        before, known = known, Journal(journal).trials
        for key, trial in before.items():
            assert trial.outcome is None or known[key] == trial, "a finished trial ran again"
    done = commands.run(*arguments[cut], "--resume", program="sweep.py", cwd=cut, **LOCAL)
    assert done.returncode == 0, done.stderr
    results = [
        (e["key"], e["epoch"]) for e in map(json.loads, journal.read_text().splitlines()) if e["event"] == "result"
    ]
    assert len(results) == len(set(results)), "no epoch counted twice"
    assert (cut / "runs" / "s" / "table.md").read_text() == (whole / "runs" / "s" / "table.md").read_text()
    after = Journal(journal).trials
    client, _, children = runs_of(cut)
    assert set(children) == set(after), "each trial once"
    for key, trial in after.items():
        points = client.get_metric_history(children[key].info.run_id, "val_knn")
        assert sorted(p.step for p in points) == sorted(trial.results) == [1, 2, 3, 4, 5]
        assert children[key].info.status == "FINISHED"


def wait_for_events(journal, count, driver, seconds=150):
    deadline = time.monotonic() + seconds
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= count):
        assert time.monotonic() < deadline, "the driver wrote nothing more"
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.01)

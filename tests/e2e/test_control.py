"""A running sweep takes requests from another process: settings to try, a trial to stop, the search to stop."""

import os
import subprocess
import sys
import time

import mlflow
import pytest
import yaml
from helpers import commands
from helpers.commands import ROOT, refused

from raydistill.records.budget import BY_HAND, TRIAL_BY_HAND
from raydistill.records.journal import read_records
from raydistill.sweep.workers.local_launcher import LAUNCHER

pytestmark = pytest.mark.e2e
EPOCHS = 60  # so that two requests arrive before the first trials end, also on a fast machine
TINY = [
    *("--method", "simclr", "--trials", "6", "--epochs", str(EPOCHS), "--seeds", "1", "--name", "s"),
    *("--set", "method.backbone=resnet10_w4", "--set", "data.limit=120", "--set", "data.batch_size=16"),
    *("--search-space", "space.yaml", "--threads", "1", "--learners", "2"),
]


def test_a_sweep_is_told_what_to_try_and_what_to_stop_while_it_runs(tmp_path):
    space = {"method": "random", "parameters": {"train.lr": {"min": 0.001, "max": 0.1}}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(ROOT), LAUNCHER: "local"}
    command = [sys.executable, str(ROOT / "sweep.py"), *TINY]
    journal = tmp_path / "runs" / "s" / "journal.jsonl"

    def records():
        return read_records(journal) if journal.exists() else {}

    def say(*words):
        return commands.run(*words, cwd=tmp_path)

    refused(commands.run("stop", "s", cwd=tmp_path), "there is no sweep of that name")
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=err)
    try:
        wait(lambda: all(key in records() and records()[key].epochs for key in ("t0000", "t0001")), process)
        added = say("add", "s", "lr=0.0123")
        assert added.stdout == "s: train.lr = 0.0123: tried next, as one of the 6 trials\n", added.stderr
        stopped = say("stop", "s", "t0001")
        assert stopped.stdout == "s: t0001 ends with the running epoch\n", stopped.stderr
        refused(say("add", "s", "lr=5"), "train.lr = 5: train.lr never has this value; it has {'distribution'")
        refused(say("add", "s", "lr_=0.01"), "lr_: not a parameter of the search space; did you mean 'lr'?")
        refused(say("stop", "s", "t0099"), "sweep 's': t0099: there is no such trial")
        wait(lambda: records()["t0000"].outcome and "t0002" in records(), process)
        ended = say("stop", "s")
        assert ended.stdout.startswith("s: the search ends with the running epochs, after "), ended.stderr
        assert process.wait(300) == 0, (tmp_path / "err").read_text()
    finally:
        process.kill()
    refused(say("stop", "s"), "sweep 's' takes no requests: it does not run")

    trials = {key: record for key, record in records().items() if key.startswith("t")}
    assert (trials["t0000"].outcome, trials["t0000"].epochs) == ("finished", EPOCHS)
    assert (trials["t0001"].outcome, trials["t0001"].message) == ("stopped_early", TRIAL_BY_HAND)
    assert (trials["t0002"].added, trials["t0002"].settings) == (True, {"train.lr": 0.0123})
    assert not any(trials[key].added for key in trials if key != "t0002")
    assert len(trials) < 6
    cut = [record for key, record in trials.items() if key not in ("t0000", "t0001") and record.epochs < EPOCHS]
    assert {(record.outcome, record.message) for record in cut} == {("stopped_early", BY_HAND)}
    assert all(record.results for record in cut), "each ended its epoch"
    table = (tmp_path / "runs" / "s" / "table.md").read_text()
    assert f"{TRIAL_BY_HAND}: t0001" in table
    assert f"{BY_HAND} after {len(trials)} of 6 trials" in table
    assert "| simclr" in table
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'raydistill'")
    runs = {run.info.run_name: run.data.tags for run in client.search_runs([experiment.experiment_id])}
    assert runs["t0001"]["raydistill.message"] == TRIAL_BY_HAND
    assert runs["t0002"]["raydistill.added"] == "by hand"
    assert not list((tmp_path / "runs" / "s" / "control").iterdir())


def wait(condition, process, seconds=250):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the sweep has ended"
        assert time.monotonic() < end
        time.sleep(0.2)

"""Nodes that come and go, on one machine: an autoscaled cluster, lost nodes and workers, an elastic group."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers.servers.heads import ray_head

from raydistill.records.journal import Journal

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SPACE = "method: random\nmetric: {name: val_knn}\nparameters: {method.tau_c: {values: [0.1, 0.2, 0.5, 1.0]}}\n"


def sweep(head, folder, *arguments, **environment):
    """The command as a user types it, on that cluster; its process."""
    (folder / "space.yaml").write_text(SPACE)
    tiny = {"method.backbone": "resnet10_w4", "data.limit": 60, "data.batch_size": 16, "data.image_size": 8}
    command = [
        sys.executable,
        str(ROOT / "sweep.py"),
        "--method",
        "simclr",
        "--name",
        "s",
        "--search-space",
        "space.yaml",
        "--seeds",
        "1",
        "--threads",
        "1",
        *(f"--set={key}={value}" for key, value in tiny.items()),
        *arguments,
    ]
    with (folder / "sweep.log").open("w") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env=head.environment | {"RAY_ADDRESS": head.address, "OMP_NUM_THREADS": "1", **environment},
        )


def raylets(head):
    """Process ids of the nodes of this cluster, its head first."""
    port = head.address.rpartition(":")[2]
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "raylet" and f":{port}" in " ".join(process.cmdline()):
                found.append((process.create_time(), process.pid))
        except psutil.Error:
            continue
    return [pid for _, pid in sorted(found)]


def add_node(head):
    started = head.run("start", f"--address={head.address}", "--num-cpus=1", "--disable-usage-stats")
    assert started.returncode == 0, started.stderr


def processes(head, kind):
    """Ray's processes on the nodes of this cluster whose title has `kind` in it."""
    found = []
    for node in raylets(head):
        with suppress(psutil.Error):
            found += [p.pid for p in psutil.Process(node).children() if kind in title(p)]
    return found


def title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait(condition, process=None, seconds=180, what=""):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen in time"
        assert process is None or process.poll() is None, f"the sweep ended: {what}"
        time.sleep(0.05)


def ended_well(process, folder, trials, epochs):
    code = process.wait(timeout=400)
    assert code == 0, (folder / "sweep.log").read_text()[-3000:]
    found = Journal(folder / "runs" / "s" / "journal.jsonl").trials
    searched = {key: trial for key, trial in found.items() if key.startswith("t0")}
    assert len(searched) == trials
    for key, trial in searched.items():
        assert (trial.outcome, sorted(trial.results)) == ("finished", list(range(1, epochs + 1))), (key, trial.message)
    return searched


def said(folder, text):
    journal = folder / "runs" / "s" / "journal.jsonl"
    return journal.exists() and text in journal.read_text()


@pytest.mark.soak
def test_waiting_trials_bring_nodes_a_lost_one_costs_no_trial_and_idle_ones_go(tmp_path):
    epochs = 300  # so that some are left when the node is killed; without its second worker the group waits
    with ray_head(tmp_path, cpus=1, node_types={"worker": {"CPU": 1}}) as head:
        assert len(raylets(head)) == 1
        # Two workers do not fit on the head.
        process = sweep(head, tmp_path, "--trials", "4", "--epochs", str(epochs), "--workers", "2")
        wait(lambda: len(raylets(head)) == 2, process, what="no node came")
        wait(lambda: said(tmp_path, '"epoch": 5'), process, what="no epoch was trained")
        before = raylets(head)
        os.kill(before[1], signal.SIGKILL)
        wait(lambda: set(raylets(head)) - set(before), process, what="no other node came")
        trials = ended_well(process, tmp_path, 4, epochs)
        assert {trial.results[epochs]["workers"] for trial in trials.values()} == {2.0}
        wait(lambda: len(raylets(head)) == 1, what="the idle node stayed")


@pytest.mark.soak
def test_an_elastic_group_grows_with_a_node_that_comes_and_goes_on_without_it(tmp_path):
    with ray_head(tmp_path, cpus=1) as head:
        process = sweep(
            head, tmp_path, "--trials", "2", "--epochs", "600", "--workers", "1:2", RAYDISTILL_RESIZE_SECONDS="3"
        )
        wait(lambda: said(tmp_path, '"epoch": 2'), process)
        add_node(head)
        wait(lambda: said(tmp_path, '"workers": 2.0'), process, what="the group did not grow")
        for pid in raylets(head)[1:]:
            os.kill(pid, signal.SIGKILL)
        trials = ended_well(process, tmp_path, 2, 600)
    for trial in trials.values():
        sizes = [trial.results[epoch]["workers"] for epoch in sorted(trial.results)]
        assert sizes[0] == sizes[-1] == 1.0
        assert Counter(sizes)[2.0] > 0


@pytest.mark.soak
@pytest.mark.fault(5)
def test_random_kills_through_a_whole_sweep_cost_no_trial(tmp_path):
    """Of workers, trials and a node, each of which comes again; what a sweep cannot lose lives with its driver."""
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), Counter()
    with ray_head(tmp_path, cpus=1) as head:
        add_node(head)
        process = sweep(head, tmp_path, "--trials", "20", "--epochs", "20", "--workers", "2", "--learners", "8")
        wait(lambda: said(tmp_path, '"epoch": 1'), process)
        for kind in rng.sample(["RayTrainWorker", "Trainable", "node", "RayTrainWorker", "Trainable"], 5):
            time.sleep(rng.uniform(1, 8))
            found = raylets(head)[1:] if kind == "node" else processes(head, kind)
            if process.poll() is None and found:
                kills[kind] += 1
                os.kill(rng.choice(found), signal.SIGKILL)
                if kind == "node":
                    add_node(head)
        print(f"seed {seed}: killed {dict(kills)}")
        ended_well(process, tmp_path, 20, 20)
    assert sum(kills.values()) >= 3

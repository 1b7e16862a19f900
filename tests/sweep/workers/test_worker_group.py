"""Worker groups on a real Ray: a killed worker costs no trial, and several workers train one pack."""

import os
import signal
import threading
import time
from contextlib import suppress

import psutil
import pytest
from helpers.builders.states import same

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import ProcessLauncher
from raydistill.sweep.workers.worker_group import RayLauncher
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def sweep(folder, name, *, epochs, launcher=RayLauncher, **values):
    from raydistill.sweep.run import run_sweep

    space = folder / "space.yaml"
    space.write_text("method: grid\nparameters: {method.tau_c: {values: [0.1, 0.5]}}\n")
    base = config.load(
        {
            "method": {"name": "simclr", "backbone": "resnet10_w4"},
            "data": {"limit": 60, "batch_size": 16, "image_size": 8},
            "train": {"epochs": epochs, "lr": 0.01},
            "eval": {"probe_epochs": 1},
        }
    )
    settings = SweepSettings(
        name=name,
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=base,
        space=load_space(space, "simclr", {}),
        trials=2,
        seeds=1,
        threads=1,
        **values,
    )
    run_sweep(settings, launcher=launcher)
    trials = Journal(settings.directory / "journal.jsonl").trials
    states = {key: latest_checkpoint(settings.directory / "trials" / key) for key in trials}
    return settings, trials, states


def processes(kind):
    """Of this test's own cluster, by what is in their titles."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if kind in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


@pytest.mark.fault(3)
def test_a_single_worker_killed_in_mid_epoch_costs_no_trial_and_changes_no_bit(ray_cluster, tmp_path):
    journal = tmp_path / "runs" / "cut" / "journal.jsonl"
    killed = []

    def kill():
        while not killed:
            if journal.exists() and '"epoch": 4' in journal.read_text():
                for pid in processes("WorkerProcess"):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    _, trials, cut = sweep(tmp_path, "cut", epochs=12, launcher=ProcessLauncher)
    assert killed
    assert all(trial.outcome == "finished" and trial.epochs == 12 for trial in trials.values())
    for key, trial in trials.items():
        values = config.assign(trial.config, {"train.offsets": trial.offsets})
        train(TrialSpec(config.load(values)), tmp_path / key, evaluate=lambda *_: {}, device="cpu")
        assert same(latest_checkpoint(tmp_path / key)["method"], cut[key]["method"]), "one that nobody killed"


@pytest.mark.fault(3)
def test_a_worker_of_two_and_then_ray_trains_controller_killed_cost_no_trial_and_keep_no_cores(ray_cluster, tmp_path):
    """Of the three cores the group has two, which the group after the controller's needs again."""
    journal = tmp_path / "runs" / "half" / "journal.jsonl"
    killed = []

    def kill(kind, epoch, least):
        while len(killed) < least:
            if journal.exists() and f'"epoch": {epoch}' in journal.read_text() and (found := processes(kind)):
                for pid in found if kind == "TrainController" else found[-1:]:
                    os.kill(pid, signal.SIGKILL)
                killed.append(kind)
            time.sleep(0.01)

    def kill_both():
        kill("RayTrainWorker", 3, 1)
        kill("TrainController", 8, 2)

    threading.Thread(target=kill_both, daemon=True).start()
    _, trials, states = sweep(tmp_path, "half", epochs=14, workers=2)
    assert killed == ["RayTrainWorker", "TrainController"]
    assert all(trial.outcome == "finished" and trial.epochs == 14 for trial in trials.values())
    assert all(state["epoch"] == 14 for state in states.values())
    assert {result["workers"] for trial in trials.values() for result in trial.results.values()} == {2.0}


def test_an_actor_ends_with_all_that_it_started_and_nothing_else(ray_cluster):
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    from raydistill.sweep.workers.cleanup import kill_actor_tree

    @ray.remote(num_cpus=0)
    class Controller:
        def reserve(self):
            group = placement_group([{"CPU": 1}])
            ray.get(group.ready())
            return group.id.hex()

    @ray.remote(num_cpus=0)
    class Host:
        def start(self):
            self.controller = Controller.remote()
            return ray.get(self.controller.reserve.remote())

    mine = placement_group([{"CPU": 0.1}])
    ray.get(mine.ready())
    host, other = Host.remote(), Host.remote()
    theirs, others = ray.get([host.start.remote(), other.start.remote()])
    kill_actor_tree(host)
    states = {key: group["state"] for key, group in placement_group_table().items()}
    assert (states[theirs], states[others], states[mine.id.hex()]) == ("REMOVED", "CREATED", "CREATED")
    kill_actor_tree(other)
    ray.util.remove_placement_group(mine)


def test_a_full_group_brings_another_and_elastic_ones_start_with_what_there_is(ray_cluster, tmp_path):
    """Of the three cores the first group takes one or two."""
    settings, trials, _ = sweep(tmp_path, "apart", epochs=2, packs=2, learners=1, workers=1, most_workers=2)
    assert all(trial.outcome == "finished" for trial in trials.values())
    assert {result["pack_learners"] for trial in trials.values() for result in trial.results.values()} == {1.0}
    groups = {path.name.rpartition("-pack-")[2] for path in (settings.directory / "ray").glob("train-*/train-*-pack-*")}
    assert groups >= {"0", "1"}
    assert {trial.results[2]["workers"] for trial in trials.values()} <= {1.0, 2.0}

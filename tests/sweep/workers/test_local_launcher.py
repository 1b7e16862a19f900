"""Launchers without Ray Train: the same sweep to the last bit, and how their worker starts, dies and ends."""

import asyncio
from types import SimpleNamespace

import psutil
import pytest
from helpers.brokers import A
from helpers.builders.states import same, weights
from helpers.requests import request

from raydistill import config
from raydistill.config import ConfigError
from raydistill.records.journal import read_records
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers import worker_loop
from raydistill.sweep.workers.local_launcher import (
    LAUNCHER,
    LocalLauncher,
    ProcessLauncher,
    check_launcher,
    default_launcher,
    named_launcher,
)
from raydistill.sweep.workers.worker_group import RayLauncher, WorkerGroupSettings

CLOCK = {"epoch_seconds", "images_per_second", "step_seconds", "shared_seconds"}


def plan(folder, **values):
    space = folder / "space.yaml"
    space.write_text("method: random\nparameters: {train.lr: {min: 0.001, max: 0.01}}\n")
    base = {
        "method": {"name": "simclr", "backbone": "resnet10_w4"},
        "data": {"limit": 60, "batch_size": 16, "image_size": 8},
        "train": {"epochs": 2},
        "eval": {"probe_epochs": 1},
    }
    return SweepSettings(
        name="s",
        storage=folder,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(base),
        space=load_space(space, "simclr", {}),
        artifacts=folder / "artifacts",
        **{"trials": 2, "seeds": 2, "threads": 1, "learners": 1, **values},
    )


def timeless(directory):
    """The journal's trials without what the clock says."""
    records = read_records(directory / "journal.jsonl")
    for record in records.values():
        for metrics in record.results.values():
            for name in CLOCK:
                del metrics[name]
    return records


@pytest.mark.e2e
@pytest.mark.slow
def test_it_trains_what_ray_train_does_bit_for_bit(ray_cluster, tmp_path):
    from raydistill.sweep.run import run_sweep

    plans, results = [], []
    for launcher in (RayLauncher, LocalLauncher, ProcessLauncher):
        folder = tmp_path / launcher.__name__
        folder.mkdir()
        plans.append(plan(folder))
        results.append(run_sweep(plans[-1], launcher=launcher))
    real, *others = (settings.directory for settings in plans)
    assert list((real / "ray").glob("train-*")), "Ray Train ran"
    records = timeless(real)
    assert len(records) == 3, "a final of its own beside the two that the search tried"
    assert {record.outcome for record in records.values()} == {"finished"}
    for other, result in zip(others, results[1:], strict=True):
        assert not list((other / "ray").glob("train-*")), "it did not"
        assert timeless(other) == records
        assert result.table == results[0].table
        for key in records:
            assert same(weights(other / "trials" / key), weights(real / "trials" / key)), key


@pytest.mark.e2e
@pytest.mark.slow
def test_a_worker_that_cannot_start_fails_its_trials_and_ends_with_the_broker(ray_cluster, tmp_path):
    import ray

    from raydistill.sweep.workers.broker import Broker
    from raydistill.sweep.workers.cleanup import kill_actor_tree

    class Known(Broker):
        def process(self):
            return psutil.Process().pid

    launcher = LocalLauncher(WorkerGroupSettings(), str(tmp_path / "ray" / "train"))
    broker = ray.remote(num_cpus=0, max_concurrency=100)(Known).remote(launch=launcher)
    process = psutil.Process(ray.get(broker.process.remote()))
    ray.get(broker.join.remote(request("t0000", A, str(tmp_path))))
    report = ray.get(broker.next.remote("t0000"), timeout=60)
    assert report.error.startswith("worker group pack-0 cannot start: --storage is not reached from node")
    kill_actor_tree(broker)
    process.wait(timeout=30)


@pytest.fixture
def launch(monkeypatch):
    """Start a group whose worker is a function, and wait for its end."""
    from raydistill.sweep.workers import local_launcher

    actor = SimpleNamespace(current_actor="the broker")
    monkeypatch.setattr(local_launcher.ray, "get_runtime_context", lambda: actor)

    def launch(work):
        monkeypatch.setattr(worker_loop, "run_worker", work)

        async def scenario():
            await asyncio.wait_for(LocalLauncher(WorkerGroupSettings(threads=3), "/runs/s/ray/t")("pack-0"), 20)

        asyncio.run(scenario())

    return launch


def test_the_worker_knows_its_broker_and_ends_when_it_returns(launch):
    calls = []
    launch(lambda *arguments: calls.append(arguments))
    ((given, device, workers),) = calls
    assert (given["broker"], given["name"], given["threads"]) == ("the broker", "pack-0", 3)
    assert (device, workers.world) == ("cpu", 1)


def test_what_ends_the_worker_is_raised_to_the_broker(launch):
    def work(*_):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        launch(work)


class TestChoice:
    def test_a_process_suits_one_cpu_worker_on_a_cluster_of_its_own(self, tmp_path):
        assert default_launcher(plan(tmp_path), alone=True) is ProcessLauncher
        assert default_launcher(plan(tmp_path), alone=False) is RayLauncher

    @pytest.mark.parametrize("values", [{"packs": 2}, {"workers": 2}, {"most_workers": 2}, {"gpu": True}])
    def test_ray_train_runs_everything_else(self, tmp_path, values):
        assert default_launcher(plan(tmp_path, **values), alone=True) is RayLauncher

    @pytest.mark.parametrize(
        ("name", "launcher"), [("ray", RayLauncher), ("process", ProcessLauncher), ("local", LocalLauncher)]
    )
    def test_the_environment_names_one(self, monkeypatch, tmp_path, name, launcher):
        monkeypatch.setenv(LAUNCHER, name)
        assert named_launcher(plan(tmp_path)) is launcher

    def test_without_a_name_the_sweep_chooses(self, monkeypatch, tmp_path):
        monkeypatch.delenv(LAUNCHER, raising=False)
        assert named_launcher(plan(tmp_path)) is None

    @pytest.mark.parametrize("name", ["process", "local"])
    @pytest.mark.parametrize(
        ("values", "cause"),
        [
            ({"packs": 2}, "--packs"),
            ({"workers": 2}, "--workers"),
            ({"most_workers": 2}, "--workers"),
            ({"gpu": True}, "--gpu"),
        ],
    )
    def test_one_worker_on_the_cpu_is_all_that_they_run(self, monkeypatch, tmp_path, name, values, cause):
        monkeypatch.setenv(LAUNCHER, name)
        with pytest.raises(ConfigError, match=f"^{LAUNCHER}={name} .*{cause}"):
            named_launcher(plan(tmp_path, **values))
        monkeypatch.setenv(LAUNCHER, "ray")
        assert named_launcher(plan(tmp_path, **values)) is RayLauncher

    def test_an_unknown_name_is_refused_with_those_that_are_known(self, monkeypatch, tmp_path):
        monkeypatch.setenv(LAUNCHER, "loca")
        with pytest.raises(ConfigError, match="'loca': choose ray or process or local"):
            named_launcher(plan(tmp_path))


def test_a_caller_is_refused_alike(tmp_path):
    with pytest.raises(ConfigError, match="runs one worker"):
        check_launcher(ProcessLauncher, plan(tmp_path, workers=2))
    check_launcher(RayLauncher, plan(tmp_path, workers=2))


@pytest.mark.parametrize(("deaths", "said"), [(3, []), (10**6, ["worker group pack-0 cannot start: no torch here"])])
def test_a_process_that_cannot_start_is_tried_some_times_and_its_group_then_ends(monkeypatch, deaths, said):
    """As one that is killed while it imports torch; those that come up forget what was before."""
    import ray

    from raydistill.sweep.workers import local_launcher

    told, killed, slept, left = [], [], [], [deaths]

    class Remote:
        def __init__(self, work):
            self.work = work

        async def remote(self, *arguments):
            return self.work(*arguments)

    def prepare():
        if left[0]:
            left[0] -= 1
            raise ray.exceptions.RayActorError(error_msg="no torch here")

    async def pause(seconds):
        slept.append(seconds)

    worker = SimpleNamespace(prepare=Remote(prepare), run=Remote(lambda config: None))
    broker = SimpleNamespace(group_failed=Remote(lambda name, text: told.append(text)))
    fake = SimpleNamespace(
        remote=lambda **_: lambda cls: SimpleNamespace(remote=lambda: worker),
        get_runtime_context=lambda: SimpleNamespace(current_actor=broker),
        exceptions=ray.exceptions,
    )
    monkeypatch.setattr(local_launcher, "ray", fake)
    monkeypatch.setattr(local_launcher, "on_this_node", lambda: None)
    monkeypatch.setattr(local_launcher, "kill_actor_tree", killed.append)
    monkeypatch.setattr(local_launcher.asyncio, "sleep", pause)
    asyncio.run(ProcessLauncher(WorkerGroupSettings(), "/runs/s/ray/t")("pack-0"))
    assert told == said
    assert len(killed) == min(deaths, 21), "none is left behind"
    assert slept[:4] == [0, 1, 2, 3][: len(slept)]
    assert max(slept) <= 10

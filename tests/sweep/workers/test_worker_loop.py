"""A worker takes its share of its node, and a GPU that does not compute is named before it takes trials."""

from types import SimpleNamespace

import pytest
import torch

from raydistill.sweep.workers import worker_group, worker_loop
from raydistill.sweep.workers.worker_group import GroupHost, WorkerGroupSettings
from raydistill.training import devices

HEAD = {"NodeID": "head", "Alive": True, "Resources": {"CPU": 4.0}}
IDLE_HEAD = {"NodeID": "head", "Alive": True, "Resources": {"CPU": 0.0}}
GPUS = {"NodeID": "gpus", "Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0}}
OTHER = {"NodeID": "other", "Alive": True, "Resources": {"CPU": 8.0}}
LOST = {"NodeID": "lost", "Alive": False, "Resources": {}}


@pytest.mark.parametrize(
    ("nodes", "own", "groups", "workers", "gpu", "threads"),
    [
        pytest.param([HEAD], "head", 1, 1, False, 16, id="one on a laptop"),
        pytest.param([HEAD], "head", 4, 1, False, 4, id="four on a laptop"),
        pytest.param([HEAD], "head", 40, 1, False, 1, id="more than cores"),
        pytest.param([HEAD, OTHER, LOST], "other", 4, 1, False, 8, id="two nodes"),
        pytest.param([HEAD, OTHER], "other", 1, 4, False, 4, id="a group of four, on one of two nodes"),
        pytest.param([IDLE_HEAD, OTHER], "other", 4, 1, False, 4, id="nothing runs on the head"),
        pytest.param([HEAD, GPUS], "gpus", 1, 1, True, 16, id="one GPU of four"),
        pytest.param([HEAD, GPUS], "gpus", 4, 2, True, 4, id="all four"),
    ],
)
def test_threads_are_the_share_of_the_workers_own_node(monkeypatch, nodes, own, groups, workers, gpu, threads):
    monkeypatch.setattr(worker_loop, "usable_cores", lambda: 16.0)
    assert worker_loop.threads_of(nodes, own, groups=groups, workers=workers, gpu=gpu) == threads


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (RuntimeError("no kernel image is available"), r"does not compute \(no kernel image is available\)"),
        (None, r"computes sums of \[511.0, 512.0\]"),
    ],
)
def test_a_gpu_that_does_not_compute_is_named(monkeypatch, fails, said):
    def ones(*shape, device):
        if fails:
            raise fails
        return honest(*shape)

    honest = torch.ones
    monkeypatch.setattr(torch, "ones", ones)
    if fails is None:
        product = torch.Tensor.__matmul__
        monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: product(a, b) - 1 / 64)
    with pytest.raises(RuntimeError, match=f"cuda:1 of .* {said}.*raydistill doctor"):
        devices.check_computes(torch.device("cuda", 1))


def test_a_cpu_is_not_checked(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *_, **__: pytest.fail("it was"))
    devices.check_computes(torch.device("cpu"))


class TestStart:
    """A group that cannot start ends, with the cause; it is not started for ever."""

    @pytest.fixture
    def run(self, monkeypatch):
        from ray.train import ControllerError

        def run(*given):
            failures.extend(given)

            def fit(self):
                fits.append(made["run_config"].name)
                if failures:
                    raise ControllerError(failures.pop(0))

            trainer = "ray.train.torch.TorchTrainer"
            monkeypatch.setattr(f"{trainer}.__init__", lambda self, *_, **options: made.update(options))
            monkeypatch.setattr(f"{trainer}.fit", fit)
            monkeypatch.setattr(worker_group.ray, "get", lambda reference: reference)
            broker = SimpleNamespace(group_failed=SimpleNamespace(remote=lambda *given: told.append(given)))
            GroupHost().run("pack-0", broker, WorkerGroupSettings(gpu=True), "/runs/s/ray/train")

        made, told, fits, failures = {}, [], [], []
        return SimpleNamespace(run=run, made=made, told=told, fits=fits)

    def test_the_broker_hears_why(self, run):
        from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError

        no_gpu = WorkerGroupStartupFailedError("ProcessGroupNCCL is only supported with GPUs, no GPUs found!")
        run.run(*[no_gpu] * worker_group.MAX_ROUNDS)
        ((name, message),) = run.told
        assert name == "pack-0"
        assert message.startswith("worker group pack-0 cannot start: ")
        assert "no GPUs found" in message
        assert run.made["run_config"].failure_config.controller_failure_limit > 0

    def test_a_busy_cluster_is_waited_for(self, run):
        from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

        run.run(*[WorkerGroupStartupTimeoutError(2)] * 10)
        assert not run.told
        assert len(set(run.fits)) == 11, "Ray Train would go on with a run of the same name"

    def test_other_failures_end_the_host_which_comes_again(self, run):
        from ray.train import ControllerError

        with pytest.raises(ControllerError):
            run.run(RuntimeError("the controller is gone"))
        assert not run.told

    def test_objects_do_not_go_by_nccl_and_may_take_long(self, run):
        run.run()
        assert run.made["torch_config"].backend == "cpu:gloo,cuda:nccl"
        assert run.made["torch_config"].timeout_s > 3600


@pytest.mark.parametrize(("per_gpu", "threads"), [(1, 4), (2, 2), (4, 1)])
def test_groups_that_share_gpus_share_their_cores(monkeypatch, per_gpu, threads):
    monkeypatch.setattr(worker_loop, "usable_cores", lambda: 16.0)
    found = worker_loop.threads_of([HEAD, GPUS], "gpus", groups=64, workers=1, gpu=True, per_gpu=per_gpu)
    assert found == threads


@pytest.mark.parametrize(("per_gpu", "asked"), [(1, 1), (4, 0.25)])
def test_a_worker_asks_for_its_part_of_a_gpu(tmp_path, per_gpu, asked):
    settings = WorkerGroupSettings(gpu=True, per_gpu=per_gpu, groups=4)
    trainer = worker_group._trainer("g", 0, None, settings, str(tmp_path))
    assert trainer.scaling_config.resources_per_worker["GPU"] == asked
    assert worker_group.worker_config("g", None, settings, "")["beside"]["per_gpu"] == per_gpu

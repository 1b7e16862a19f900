"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start: the tensors are tiny, and on a busy machine
# a second thread makes them many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["helpers.plugins.distribution", "helpers.plugins.durations", "helpers.plugins.stores"]


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The folder with CIFAR-10 as train.parquet and test.parquet."""
    beside = Path(__file__).resolve().parents[1] / "../shared/data/cifar10"
    root = Path(os.environ.get("RAYDISTILL_CIFAR10") or beside).resolve()
    if not all((root / name).is_file() for name in ("train.parquet", "test.parquet")):
        reason = f"no CIFAR-10 Parquet in {root}; set RAYDISTILL_CIFAR10 to its folder"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return root


# One cluster for all tests of a process; helpers.plugins.distribution gives all tests that start Ray to one process.


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of three CPUs, set up as `sweep.run` does."""
    import ray

    for name, value in {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": "64",
    }.items():
        os.environ[name] = value
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()

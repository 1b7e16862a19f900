"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start: the tensors are tiny, and on a busy machine
# a second thread makes them many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The folder with CIFAR-10 as train.parquet and test.parquet."""
    beside = Path(__file__).resolve().parents[1] / "../shared/data/cifar10"
    root = Path(os.environ.get("RAYDISTILL_CIFAR10") or beside).resolve()
    if not all((root / name).is_file() for name in ("train.parquet", "test.parquet")):
        reason = f"no CIFAR-10 Parquet in {root}; set RAYDISTILL_CIFAR10 to its folder"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return root

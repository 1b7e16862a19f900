"""What a process may use is what its container lets it use."""

import os

import psutil
import pytest

from raydistill import machine

CORES = float(len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path, monkeypatch, files, cores):
    plant(tmp_path, monkeypatch, files)
    assert machine.usable_cores() == cores


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"memory.max": "3000\n", "memory.current": "1000\n"}, 2000),
        ({"memory.max": "1000\n", "memory.current": "3000\n"}, 0),
        ({"memory.max": "3000\n", "memory.current": "3000\n", "memory.stat": "anon 1\ninactive_file 2500\n"}, 2500),
        ({"memory/memory.limit_in_bytes": "5000\n", "memory/memory.usage_in_bytes": "1000\n"}, 4000),
    ],
)
def test_memory_is_that_of_the_limit(tmp_path, monkeypatch, files, most):
    plant(tmp_path, monkeypatch, files)
    assert machine.usable_memory() == most


@pytest.mark.parametrize("files", [{}, {"memory.max": "max\n", "memory.current": "1000\n"}])
def test_without_a_limit_it_is_what_is_free(tmp_path, monkeypatch, files):
    plant(tmp_path, monkeypatch, files)
    assert 0 < machine.usable_memory() <= psutil.virtual_memory().total


def plant(folder, monkeypatch, files):
    monkeypatch.setattr(machine, "GROUPS", folder)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

"""Cores and memory that this process may use: its affinity, and the limits of its container or batch job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GROUPS = Path("/sys/fs/cgroup")  # of version 2, and below it those of version 1


def usable_cores() -> float:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quotas = [
        *_numbers("cpu.max"),  # "max" where there is no limit
        *_numbers("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),  # -1 where there is none
    ]
    return min([cores, *(quota / period for quota, period in quotas if quota > 0 and period > 0)])


def usable_memory() -> float:
    """Bytes that are free for this process: of the machine, and within the limit of its container."""
    import psutil

    limits = [
        *_numbers("memory.max", "memory.current"),
        *_numbers("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ]
    free = [limit - used + _cached_files() for limit, used in limits]
    return max(0.0, min([psutil.virtual_memory().available, *free]))


def free_memory_of(device: torch.device) -> float:
    """Bytes that are free on a GPU; 0 for any other device."""
    if device.type != "cuda":
        return 0.0
    import torch

    return float(torch.cuda.mem_get_info(device)[0])


def _cached_files() -> float:
    """Bytes of files that the container's usage counts, and that make room when memory is asked for."""
    for file, name in (("memory.stat", "inactive_file"), ("memory/memory.stat", "total_inactive_file")):
        with suppress(OSError, ValueError):
            found = dict(line.split() for line in (GROUPS / file).read_text().splitlines())
            return float(found.get(name, 0))
    return 0.0


def _numbers(*files: str) -> Iterator[tuple[float, float]]:
    """The two numbers in the files of a control group, if there is one and it has a limit."""
    try:
        first, second = " ".join((GROUPS / file).read_text() for file in files).split()
        yield float(first), float(second)
    except (OSError, ValueError):
        return

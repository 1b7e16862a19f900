"""Limits of this machine that Ray and torch run into."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.machine import usable_cores

RAISED_TO = 65536  # by ray.init, if the hard limit lets it
LEAST_FILES, FEW_FILES = 4096, 8192  # Ray's own limits
CROWDED = 0.8
FILE_TABLE = Path("/proc/sys/fs/file-nr")


def check_open_files(_: Setup) -> Iterator[CheckResult]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    most = RAISED_TO if hard == infinite else min(hard, RAISED_TO)
    limit = most if soft == infinite else max(soft, most)
    fix = f"`ulimit -n {RAISED_TO}`; for good in /etc/security/limits.conf, or LimitNOFILE= of the service"
    found = f"{limit} open files allowed to a process"
    if limit < LEAST_FILES:
        yield CheckResult("open files", "fault", f"{found}; every worker and every connection takes some", fix)
    elif limit < FEW_FILES:
        yield CheckResult("open files", "warning", f"{found}, better {FEW_FILES}", fix)
    else:
        yield CheckResult("open files", "ok", found)
    yield from _file_table()


def _file_table() -> Iterator[CheckResult]:
    try:
        used, _, most = map(int, FILE_TABLE.read_text().split())
    except (OSError, ValueError):
        return
    if used > CROWDED * most:
        yield CheckResult(
            "open files",
            "warning",
            f"{used} of the {most} files that this machine may have open are",
            "end what leaks them (`lsof | awk '{print $1}' | sort | uniq -c | sort -n`), or raise fs.file-max",
        )


def check_host_name(_: Setup) -> Iterator[CheckResult]:
    name = socket.gethostname()
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None)})
    except OSError as error:
        yield CheckResult(
            "host name",
            "warning",
            f"{name} has no address ({error.strerror}); worker groups may not find each other",
            f"add `127.0.1.1 {name}` to /etc/hosts, or on a cluster the machine's own address",
        )
        return
    yield CheckResult("host name", "ok", f"{name} is {', '.join(found)}")


def check_cpus(_: Setup) -> Iterator[CheckResult]:
    cores = usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    busy = os.getloadavg()[0]
    fine = True
    if asked.isdigit() and int(asked) > cores:
        fine = False
        yield CheckResult(
            "cores",
            "warning",
            f"OMP_NUM_THREADS={asked} on {cores:g} cores: threads wait for each other",
            f"`export OMP_NUM_THREADS={max(1, int(cores))}`, or unset it",
        )
    if (visible := os.cpu_count() or 1) > cores + 1 and not asked:
        fine = False
        yield CheckResult(
            "cores",
            "warning",
            f"{cores:g} of {visible} cores are usable here, and torch may start threads for all",
            f"`export OMP_NUM_THREADS={max(1, int(cores))}`, and give --threads",
        )
    if busy > 1.5 * cores + 1:
        fine = False
        yield CheckResult(
            "cores",
            "warning",
            f"load {busy:.1f} on {cores:g} cores: others compute here, trials will be slow",
            "wait for them, or give less with --threads",
        )
    if fine:
        yield CheckResult("cores", "ok", f"{cores:g}, load {busy:.1f}")

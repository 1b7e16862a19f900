"""torch as a sweep would use it: its build, its threads, GPUs and their communication. Run in a process apart."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.machine import usable_cores
from raydistill.training.devices import check_computes, has_bf16

PAIR = "pip install --force-reinstall 'torch>=2.14' 'torchvision>=0.29' -c constraints.txt, both from one index"
DRIVER = Path("/proc/driver/nvidia/version")
TIMEOUT_S = 30
OLDEST = (7, 5)  # compute capability that torch's CUDA 13 has kernels for, Turing's


def check_torch(setup: Setup) -> Iterator[CheckResult]:
    """The pair of torch and torchvision first; without them nothing else can be told."""
    try:
        import torch
    except Exception as error:
        yield CheckResult("torch", "fault", f"torch cannot be imported: {_line(error)}", PAIR)
        return
    try:
        import torchvision
        from torchvision.ops import nms  # noqa: F401 - of the half that is compiled against torch
    except Exception as error:
        yield CheckResult(
            "torch", "fault", f"torch {torch.__version__} and torchvision do not fit together: {_line(error)}", PAIR
        )
    else:
        yield CheckResult("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")
    yield from _threads(torch)
    if setup.gpu is False:
        yield CheckResult("GPU", "ok", "not wanted")
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    if found:
        yield from _gpus(torch)
    else:
        yield _no_gpu(torch, setup, " ".join(_line(each.message) for each in said))


def _threads(torch: Any) -> Iterator[CheckResult]:
    threads, cores = torch.get_num_threads(), usable_cores()
    if threads > max(1, cores):
        yield CheckResult(
            "torch threads",
            "warning",
            f"torch would start {threads} threads on {cores:g} cores",
            f"`export OMP_NUM_THREADS={max(1, int(cores))}`, or give --threads",
        )
    else:
        yield CheckResult("torch threads", "ok", f"{threads} on {cores:g} cores")


def _no_gpu(torch: Any, setup: Setup, said: str) -> CheckResult:
    driver = DRIVER.exists() or shutil.which("nvidia-smi") is not None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not setup.gpu and (not driver or hidden in ("", "-1")):
        return CheckResult("GPU", "ok", "none; networks train on the CPU")
    if hidden in ("", "-1"):
        return CheckResult("GPU", "fault", f"hidden: CUDA_VISIBLE_DEVICES={hidden!r}", "`unset CUDA_VISIBLE_DEVICES`")
    if torch.version.cuda is None:
        return CheckResult("GPU", "fault", f"torch {torch.__version__} was built without CUDA", PAIR)
    if driver:
        return CheckResult(
            "GPU",
            "fault",
            f"a driver is here, and torch finds no GPU: {said or 'it gives no reason'}",
            f"a driver for CUDA {torch.version.cuda} or later (`nvidia-smi` shows what there is); in a container, "
            "`--gpus all`; or give --no-gpu",
        )
    return CheckResult(
        "GPU",
        "fault",
        f"asked for, and there is none{f': {said}' if said else ''}",
        "install NVIDIA's driver; in a container, `--gpus all`; or give --no-gpu",
    )


def _gpus(torch: Any) -> Iterator[CheckResult]:
    count = torch.cuda.device_count()
    names, old, without_bf16 = [], [], []
    for index in range(count):
        name = torch.cuda.get_device_name(index)
        try:
            check_computes(torch.device("cuda", index))
        except Exception as error:
            yield CheckResult(
                "GPU",
                "fault",
                f"{index} ({name}): {_line(error)}",
                "`nvidia-smi` shows who holds it; else a newer driver, or a torch for this GPU",
            )
            return
        names.append(name)
        if (torch.version.cuda or "").startswith("13.") and torch.cuda.get_device_capability(index) < OLDEST:
            old.append(name)
        if not has_bf16(torch.device("cuda", index)):
            without_bf16.append(name)
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    driver = f", driver {found}" if (found := driver_version()) else ""
    precision = f"; {_few(without_bf16)} without bf16, so networks train in float32" if without_bf16 else ""
    yield CheckResult("GPU", "ok", f"{count} x {_few(names)}, {built}{driver}{precision}")
    if old:
        said = f"{_few(old)}: torch's CUDA 13 is built for Turing and later, and may lack kernels for it"
        yield CheckResult("GPU", "warning", said, "a GPU from Turing (T4, RTX 20) on")
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        yield CheckResult("NCCL", "fault" if count > 1 else "warning", "this torch was built without it", PAIR)
        return
    yield CheckResult("NCCL", "ok", ".".join(map(str, torch.cuda.nccl.version())))
    if count > 1:
        pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        apart = [pair for pair in pairs if not torch.cuda.can_device_access_peer(*pair)]
        yield CheckResult(
            "peer access",
            "ok",
            f"{len(apart)} of {len(pairs)} pairs of GPUs exchange gradients through the host, which takes longer"
            if apart
            else f"all {count} GPUs reach each other's memory",
        )
        yield _all_reduce(torch, count)


def driver_version() -> str:
    """NVIDIA's driver, as the kernel tells it; empty where there is none."""
    try:
        found = re.search(r"\b\d{3}(\.\d+)+\b", DRIVER.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def _few(names: list[str]) -> str:
    return ", ".join(sorted(set(names)))


def _all_reduce(torch: Any, count: int) -> CheckResult:
    with tempfile.TemporaryDirectory() as folder:
        try:
            torch.multiprocessing.spawn(reduce, args=(count, f"{folder}/meet", "nccl"), nprocs=count)
        except Exception as error:
            return CheckResult(
                "all-reduce",
                "fault",
                f"{count} GPUs cannot add up: {_line(error)}",
                "`NCCL_DEBUG=INFO raydistill doctor` says where it stops; in a container enlarge /dev/shm; else try "
                "NCCL_P2P_DISABLE=1, or NCCL_SOCKET_IFNAME with the right network",
            )
    return CheckResult("all-reduce", "ok", f"over {count} GPUs")


def reduce(rank: int, world: int, path: str, backend: str) -> None:
    """Add up ranks as one of several processes.

    Args:
        rank, world: this process, and how many there are.
        path: a file through which they meet.
        backend: gloo or nccl.

    Raises:
        RuntimeError: a wrong sum, or what torch raises.
    """
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=f"file://{path}", rank=rank, world_size=world, timeout=timedelta(seconds=TIMEOUT_S)
    )
    try:
        total = torch.full((1024,), float(rank), device=device)
        dist.all_reduce(total)
        if not (total == world * (world - 1) / 2).all():
            raise RuntimeError(f"the sum over {world} processes is wrong")
    finally:
        dist.destroy_process_group()


def _line(error: object) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__

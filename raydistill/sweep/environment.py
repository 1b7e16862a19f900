"""Environment of a sweep: versions and machine, for whoever wants to run it again."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raydistill import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "ray",
    "optuna",
    "mlflow",
    "faiss-cpu",
    "faiss-gpu",
    "numba",
    "numpy",
    "pandas",
)


def environment() -> dict[str, str]:
    """Versions of what matters to the numbers, and the driver's machine."""
    import torch

    usable = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    gpus = [torch.cuda.get_device_name(i) for i in usable]
    found = {name: _version(name) for name in PACKAGES}
    return {
        "raydistill": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        **{name: number for name, number in found.items() if number},
        "cpu": f"{os.cpu_count()} x {_processor()}",
        "gpu": ", ".join(gpus) or "none",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

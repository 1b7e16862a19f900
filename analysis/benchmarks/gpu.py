"""One call on a GPU machine: is it right there, where does the time go, what pays?

    python analysis/benchmarks/gpu.py [--quick] [--device cuda|cpu] [--data path/to/cifar10] [--out gpu.json]

Needs torch, torchvision, timm, pydantic, PyYAML, Pillow and safetensors (for --data also pyarrow), and neither Ray,
MLflow, Optuna, faiss nor numba. Without --data the images are noise. Parts, in this order:

- methods: three SGD steps of every method in float32, on the device and on the CPU from the same weights
- views: the device's views beside the CPU's
- memory: a real allocation that fails in one of four learners
- waits: a step while torch refuses whatever makes the host wait
- tests: those that are marked `gpu`
- products: TFLOP per second of a bf16 matrix product
- stream: host and device milliseconds of a batch of two views
- epoch: host and device seconds of views, teacher, steps, scores and checkpoints, four SEED learners
- single: SimCLR beside a plain loop with a DataLoader
- packs: 1, 4 and 16 learners, their rate and memory
- compiled, processes, fused: the same steps compiled, in several processes, stacked, graphed and on streams
- neighbours: k-NN on the device and on the CPU

Each part is tried for itself. After each one all results are written to --out, so that an end before the last part
loses nothing, and a part is left out when --minutes are over. On a CPU everything is tiny, and says nothing about
speed. The last line is the JSON. The exit code is 1 if a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fused import Work, arms_of, seconds_in_turn, speedups
from gpu_parts import checks, speed
from gpu_parts.setting import Setting
from measure import MIN_REPEATS, as_json

# What was expected before any GPU was seen, for a comparison beside each figure.
EXPECTED = {
    "stream": "host time under a millisecond at 32 px and batch 256",
    "epoch": "data wait under 2 % of training, scores under a tenth",
    "single": "at least the plain loop",
    "packs": "16 narrow networks 3 times serial, ResNet-18 1.3 times",
}


def fused(setting: Setting) -> dict[str, Any]:
    """Times faster than one learner after the other: stacked by `torch.func`, a CUDA graph, a stream each."""
    found: dict[str, Any] = {}
    for name in setting.students:
        for count in (4, 16) if setting.large else (2,):
            work = Work(name, count, setting.batch, setting.device)
            work.check()
            steps = 20 if setting.large else 1
            seconds = seconds_in_turn(arms_of(work), MIN_REPEATS, steps, setting.device)
            found[f"{name}, {count}"] = as_json(speedups(seconds))
    return found


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "methods": checks.every_method,
    "views": checks.views,
    "memory": checks.memory_of_one,
    "waits": checks.no_host_waits,
    "tests": checks.own_tests,
    "products": speed.rate_of_products,
    "stream": speed.stream_alone,
    "epoch": speed.parts_of_an_epoch,
    "single": speed.single_run,
    "packs": speed.packs,
    "compiled": speed.compiled_steps,
    "processes": speed.processes,
    "fused": fused,
    "neighbours": speed.neighbours,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes on a GPU too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default="", help="CIFAR-10 as Parquet")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.json")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    given = parser.parse_args()
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "failed": {}}
    print(f"{name}, torch {torch.__version__}" + ("" if device.type == "cuda" else "; no GPU, tiny sizes"), flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(device, Path(folder), given.data, small=given.quick)
        for part in given.only or PARTS:
            result |= _tried(part, setting, began + 60 * given.minutes, result["failed"])
            given.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    return 1 if result["failed"] else 0


def _tried(part: str, setting: Setting, end: float, failed: dict[str, str]) -> dict[str, Any]:
    """The result of a part by its name; nothing, and a line in `failed`, where there is none."""
    began = time.monotonic()
    if began > end:
        failed[part] = "left out: the time was over"
        return {}
    try:
        found = PARTS[part](setting)
    except (Exception, SystemExit) as error:  # a measurement that says nothing ends a script of its own
        traceback.print_exc()
        failed[part] = f"{type(error).__name__}: {error}"
        print(f"{part}: FAILED, {failed[part]}", flush=True)
        return {}
    finally:
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"{part} ({time.monotonic() - began:.0f} s; expected: {EXPECTED.get(part, 'no failure')})", flush=True)
    for key, value in found.items():
        print(f"    {key}: {value}", flush=True)
    return {part: found}


if __name__ == "__main__":
    sys.exit(main())

"""Seconds from Enter to the first training step, and from the last epoch to the end, of README's first command.

    python analysis/benchmarks/startup.py [--quick] [--repeats 3] [--launcher process]

Each repeat is `python sweep.py --method dogo --timings` in a folder of its own. Before them one run compiles what the
machine keeps afterwards. Last line: medians. `of_which_ray_s` is the start of MLflow and Ray,
and that of its first worker, torch's import included; `after_last_epoch_s` is the final scores and all that closes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raydistill.records.layout import TIMINGS_FILE
from raydistill.sweep.display.timings import EPOCH, RAY, READY, SETTINGS, STEP, WORKER
from raydistill.sweep.workers.local_launcher import LAUNCHER, LAUNCHERS

SWEEP = Path(__file__).parents[2] / "sweep.py"
SHORT = ("--trials", "2", "--epochs", "1", "--seeds", "1", "--no-baseline-search")


def run(words: tuple[str, ...], environment: dict[str, str]) -> dict[str, float]:
    """The moments of one sweep, and its end, in seconds since it was started."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        command = [sys.executable, SWEEP, "--method", "dogo", "--name", "s", "--timings", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            raise SystemExit(done.stderr)
        print(done.stdout, flush=True)
        found: dict[str, float] = json.loads((Path(folder) / "runs" / "s" / TIMINGS_FILE).read_text())
    return found | {"end": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--launcher", choices=LAUNCHERS, help="of the worker [the sweep's own choice]")
    parser.add_argument("--quick", action="store_true", help="a short sweep, once: a check that it runs")
    given = parser.parse_args()
    environment = dict(os.environ) | ({LAUNCHER: given.launcher} if given.launcher else {})
    if not given.quick:
        run(SHORT, environment)
    runs = [run(SHORT if given.quick else (), environment) for _ in range(1 if given.quick else given.repeats)]
    result = {
        "first_step_s": statistics.median(each[STEP] for each in runs),
        "of_which_ray_s": statistics.median(each[RAY] - each[SETTINGS] + each[WORKER] - each[READY] for each in runs),
        "after_last_epoch_s": statistics.median(each["end"] - each[EPOCH] for each in runs),
        "total_s": statistics.median(each["end"] for each in runs),
    }
    print(json.dumps({name: round(seconds, 2) for name, seconds in result.items()}))


if __name__ == "__main__":
    main()

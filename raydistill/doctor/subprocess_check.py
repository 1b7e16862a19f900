"""A check in a process of its own: what crashes or hangs there takes nothing along."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from raydistill.doctor.check_result import CheckFunction, CheckResult, Setup

ROOT = Path(__file__).parents[2]


# docs/architecture.md#isolated-doctor-checks
def in_subprocess(check: CheckFunction, seconds: float) -> CheckFunction:
    """`check`, a function of a module, run by another Python for at most `seconds`."""

    def run(setup: Setup) -> Iterator[CheckResult]:
        # Through a pipe, not as arguments, which every user of the machine can read.
        task = json.dumps({"module": check.__module__, "check": check.__name__, "setup": asdict(setup)})
        path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
        process = subprocess.Popen(
            [sys.executable, "-m", "raydistill.doctor.subprocess_check"],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        ended = True
        try:
            out, err = process.communicate(task, seconds)
        except subprocess.TimeoutExpired:
            ended = False
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            try:
                out, err = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:
                out, err = "", ""
        findings = [CheckResult(**json.loads(line)) for line in out.splitlines()]
        yield from findings
        after = f" after {findings[-1].name}" if findings else ""
        if not ended:
            raise TimeoutError(f"it did not end within {seconds:g} s{after}")
        if process.returncode:
            last = (err.strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(f"its process ended with {process.returncode}{after}: {last}")

    return run


def _main() -> None:
    task = json.loads(sys.stdin.read())
    # Findings alone go to the pipe; whatever libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    check: CheckFunction = getattr(importlib.import_module(task["module"]), task["check"])
    for finding in check(Setup(**task["setup"])):
        print(json.dumps(asdict(finding)), file=answers, flush=True)
    answers.close()


if __name__ == "__main__":
    _main()

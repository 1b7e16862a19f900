"""A check in a process of its own takes nothing along when it crashes or hangs.

The process imports this file, so that it has no imports that take seconds.
"""

import os
import time
from pathlib import Path

import pytest

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.doctor.diagnostics import DiagnosticCheck, run_checks
from raydistill.doctor.subprocess_check import in_subprocess

TESTS = Path(__file__).parents[1]


def dies(_):
    yield CheckResult("z", "ok", "fine so far")
    os.abort()


def stops(_):
    yield CheckResult("z", "ok", "fine so far")
    print("noise of a library")
    time.sleep(60)


@pytest.mark.parametrize(
    ("check", "seconds", "said"), [(dies, 8, "ended with -6 after z"), (stops, 2, "within 2 s after z")]
)
def test_a_process_apart_that_crashes_or_hangs(tmp_path, monkeypatch, check, seconds, said):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    setup = Setup(storage=str(tmp_path), artifacts=str(tmp_path), tracking_uri="")
    found = run_checks(setup, [DiagnosticCheck("z", in_subprocess(check, seconds))])
    assert [each.status for each in found.findings] == ["ok", "fault"]
    assert said in found.findings[1].message
    assert not found.hung

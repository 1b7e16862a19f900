"""`raydistill doctor`: 0 on a healthy set-up, 1 on a fault, and no check that breaks or hangs holds it up."""

import threading
import time

import pytest
from helpers.commands import launch
from helpers.diagnosis import QUICK, SECRET, answer, doctor_apart, planted, setup_in

from raydistill.doctor.check_result import CheckResult
from raydistill.doctor.diagnostics import CHECKS, DiagnosticCheck, run_checks
from raydistill.redaction import redact_environment


@pytest.mark.slow
def test_a_healthy_setup_exits_with_0_within_a_minute_and_leaves_nothing(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    began = time.monotonic()
    code, findings = answer(launch("doctor", "--json", "--no-gpu", cwd=folder))
    assert code == 0, findings
    assert time.monotonic() - began < 60
    assert {each["name"] for each in findings} >= {
        "versions",
        "cores",
        "torch",
        "GPU",
        "storage",
        "artifacts",
        "free disk",
        "MLflow",
        "token",
        "exposure",
        "agent port",
        "open files",
        "host name",
    }
    assert set(findings[0]) == {"name", "status", "found", "mend"}
    assert list(folder.iterdir()) == []


def test_a_check_that_breaks_or_hangs_is_a_fault_of_its_own(tmp_path):
    def breaks(_):
        yield CheckResult("x", "ok", "fine so far")
        raise LookupError("not thought of")

    def hangs(_):
        yield CheckResult("y", "ok", "fine so far")
        threading.Event().wait()

    began = time.monotonic()
    found = run_checks(
        setup_in(tmp_path), [DiagnosticCheck("x", breaks), DiagnosticCheck("y", hangs, 0.3, "turn it off")]
    )
    assert time.monotonic() - began < 5
    assert found.hung
    assert not found.healthy
    assert [(each.name, each.status) for each in found.findings] == [
        ("x", "ok"),
        ("x", "fault"),
        ("y", "ok"),
        ("y", "fault"),
    ]
    assert "LookupError: not thought of" in found.findings[1].message
    assert "did not end within 0.3 s" in found.findings[3].message
    assert found.findings[3].fix == "turn it off"


def test_a_check_that_hangs_does_not_hold_the_command(tmp_path):
    """Threads of libraries are waited for at a process's usual end; this one is not."""
    chosen = (
        "import threading; from concurrent.futures import ThreadPoolExecutor\n"
        "def hangs(_): yield from ThreadPoolExecutor().submit(threading.Event().wait).result()\n"
        "diagnostics.CHECKS = (diagnostics.DiagnosticCheck('storage', hangs, 0.3, diagnostics.DISK),)"
    )
    code, findings = doctor_apart(tmp_path, chosen)
    assert code == 1
    planted(findings, "storage", "did not end within 0.3 s", "mount | grep nfs")


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ada:{SECRET}@db.example/mlflow",
        f"https://example.com/?sig={SECRET}&a=1",
        f"https://example.com/?access_token={SECRET}",
        f"the token is {SECRET}",
    ],
)
def test_secrets_are_not_printed(monkeypatch, text):
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    assert SECRET not in redact_environment(text)


def test_the_text_names_faults_and_what_mends_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    found = run_checks(setup_in(tmp_path, storage=str(tmp_path / "file" / "x")), QUICK)
    text = found.as_text()
    assert "fault    storage" in text
    assert "fix: make it a folder of yours" in text
    assert "1 fault" in text.splitlines()[-1]
    assert run_checks(setup_in(tmp_path), [CHECKS[0]]).as_text().endswith("\nhealthy")

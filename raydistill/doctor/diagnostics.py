"""All checks at once, each with a limit of its own, and their findings as text or JSON."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from raydistill.doctor import (
    checks_cluster,
    checks_kernels,
    checks_machine,
    checks_storage,
    checks_torch,
    checks_tracking,
    checks_versions,
)
from raydistill.doctor.check_result import CheckFunction, CheckResult, Setup
from raydistill.doctor.subprocess_check import in_subprocess
from raydistill.redaction import redact, redact_environment

WIDTH = 110
DISK = "the disk or the server behind it hangs: `mount | grep nfs`, `dmesg | tail`, and what that server says"


@dataclass(frozen=True)
class DiagnosticCheck:
    """A check under the name that its own failure is reported by. `hangs`: what to do if it does not end."""

    name: str
    check: CheckFunction
    seconds: float = 15
    hangs: str = "run it again; if it stays, report it with the output of --json"


CHECKS = (
    DiagnosticCheck("versions", checks_versions.check_versions),
    DiagnosticCheck("cores", checks_machine.check_cpus),
    DiagnosticCheck(
        "torch", in_subprocess(checks_torch.check_torch, 45), 50, "`nvidia-smi` shows whether the GPUs answer"
    ),
    DiagnosticCheck("kernels", in_subprocess(checks_kernels.check_kernels, 55), 58),
    DiagnosticCheck("storage", checks_storage.check_storage, 20, DISK),
    DiagnosticCheck("artifacts", checks_storage.check_artifacts, 20, DISK),
    DiagnosticCheck("free disk", checks_storage.check_disk_storage, 20, DISK),
    DiagnosticCheck("free disk", checks_storage.check_disk_artifacts, 20, DISK),
    DiagnosticCheck("free disk", checks_storage.check_disk_ray, 20, DISK),
    DiagnosticCheck("free disk", checks_storage.check_disk_shared, 20, DISK),
    DiagnosticCheck("MLflow", in_subprocess(checks_tracking.check_tracking, 35), 40, checks_tracking.FIXES[""]),
    DiagnosticCheck("token", checks_cluster.check_token, 30),
    DiagnosticCheck("Ray address", checks_cluster.check_address, 15),
    DiagnosticCheck("Ray's sockets", checks_cluster.check_sockets),
    DiagnosticCheck("exposure", checks_cluster.check_exposure, 30),
    DiagnosticCheck("agent port", checks_cluster.check_agent_ports, 15),
    DiagnosticCheck("open files", checks_machine.check_open_files),
    DiagnosticCheck("host name", checks_machine.check_host_name, 15, "ask the name server: `getent hosts $(hostname)`"),
)


@dataclass(frozen=True)
class Diagnosis:
    """`hung`: a check still runs, so that leaving the process in the usual way could wait for it."""

    findings: tuple[CheckResult, ...]
    hung: bool

    @property
    def healthy(self) -> bool:
        return all(finding.status != "fault" for finding in self.findings)

    def as_json(self) -> str:
        """Return the results under the names that scripts read since version 0.1."""
        findings = [
            {"name": each.name, "status": each.status, "found": each.message, "mend": each.fix}
            for each in self.findings
        ]
        return json.dumps({"healthy": self.healthy, "findings": findings}, indent=1)

    def as_text(self) -> str:
        lines = [_lines(finding) for finding in self.findings]
        count = {status: sum(each.status == status for each in self.findings) for status in ("fault", "warning")}
        said = [f"{number} {status}{'s' * (number != 1)}" for status, number in count.items() if number]
        return "\n".join([*lines, "", ", ".join(said) if said else "healthy"])


def run_checks(setup: Setup, examinations: Iterable[DiagnosticCheck] | None = None) -> Diagnosis:
    """All of them unless some are given. Never raises: a check that breaks or does not end is a fault of its own."""
    began = time.monotonic()
    running = [_Running(each, setup) for each in (CHECKS if examinations is None else examinations)]
    findings = [finding for each in running for finding in each.findings(began)]
    clean = tuple(replace(f, message=redact_environment(f.message), fix=redact_environment(f.fix)) for f in findings)
    return Diagnosis(clean, any(each.thread.is_alive() for each in running))


# docs/architecture.md#isolated-doctor-checks
class _Running:
    """One check in a thread that nobody has to wait for: a read from a dead file server cannot be ended."""

    def __init__(self, examination: DiagnosticCheck, setup: Setup) -> None:
        self._examination, self._setup = examination, setup
        self._found: list[CheckResult] = []
        self.thread = threading.Thread(target=self._run, name=f"doctor-{examination.name}", daemon=True)
        self.thread.start()

    def findings(self, began: float) -> list[CheckResult]:
        limit = self._examination.seconds
        self.thread.join(max(0.0, began + limit - time.monotonic()))
        if not self.thread.is_alive():
            return self._found
        said = f"the check did not end within {limit:g} s"
        return [*self._found, CheckResult(self._examination.name, "fault", said, self._examination.hangs)]

    def _run(self) -> None:
        try:
            for finding in self._examination.check(self._setup):
                self._found.append(finding)
        except Exception as error:
            said = redact(" ".join(f"the check itself broke: {type(error).__name__}: {error}".split()))[:400]
            self._found.append(
                CheckResult(self._examination.name, "fault", said, "report it, with the output of --json")
            )


def _lines(finding: CheckResult) -> str:
    text = textwrap.fill(
        finding.message,
        WIDTH,
        initial_indent=f"{finding.status:<8} {finding.name:<14} ",
        subsequent_indent=" " * 24,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if not finding.fix:
        return text
    # A command must be one line to be copied.
    return f"{text}\n{' ' * 24}fix: {finding.fix}"

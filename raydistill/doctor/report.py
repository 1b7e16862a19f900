"""All checks at once, each with a limit of its own, and their findings as text or JSON."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from raydistill.doctor import cluster, machine, networks, storage, tracking, versions
from raydistill.doctor.apart import apart
from raydistill.doctor.finding import Check, Finding, Setup, without_secrets

WIDTH = 110
DISK = "the disk or the server behind it hangs: `mount | grep nfs`, `dmesg | tail`, and what that server says"


@dataclass(frozen=True)
class Examination:
    """A check under the name that its own failure is reported by. `hangs`: what to do if it does not end."""

    name: str
    check: Check
    seconds: float = 15
    hangs: str = "run it again; if it stays, report it with the output of --json"


EXAMINATIONS = (
    Examination("versions", versions.check_versions),
    Examination("cores", machine.check_cpus),
    Examination("torch", apart(networks.check_torch, 45), 50, "`nvidia-smi` shows whether the GPUs answer"),
    Examination("storage", storage.check_storage, 20, DISK),
    Examination("artifacts", storage.check_artifacts, 20, DISK),
    Examination("free disk", storage.check_disk_storage, 20, DISK),
    Examination("free disk", storage.check_disk_artifacts, 20, DISK),
    Examination("free disk", storage.check_disk_ray, 20, DISK),
    Examination("free disk", storage.check_disk_shared, 20, DISK),
    Examination("MLflow", apart(tracking.check_tracking, 35), 40, tracking.MENDS[""]),
    Examination("token", cluster.check_token, 30),
    Examination("Ray address", cluster.check_address, 15),
    Examination("exposure", cluster.check_exposure, 30),
    Examination("agent port", cluster.check_agent_ports, 15),
    Examination("open files", machine.check_open_files),
    Examination("host name", machine.check_host_name, 15, "ask the name server: `getent hosts $(hostname)`"),
)


@dataclass(frozen=True)
class Report:
    """`hung`: a check still runs, so that leaving the process in the usual way could wait for it."""

    findings: tuple[Finding, ...]
    hung: bool

    @property
    def healthy(self) -> bool:
        return all(finding.status != "fault" for finding in self.findings)

    def as_json(self) -> str:
        return json.dumps({"healthy": self.healthy, "findings": [asdict(each) for each in self.findings]}, indent=1)

    def as_text(self) -> str:
        lines = [_lines(finding) for finding in self.findings]
        count = {status: sum(each.status == status for each in self.findings) for status in ("fault", "warning")}
        said = [f"{number} {status}{'s' * (number != 1)}" for status, number in count.items() if number]
        return "\n".join([*lines, "", ", ".join(said) if said else "healthy"])


def examine(setup: Setup, examinations: Iterable[Examination] | None = None) -> Report:
    """All of them unless some are given. Never raises: a check that breaks or does not end is a fault of its own."""
    began = time.monotonic()
    running = [_Running(each, setup) for each in (EXAMINATIONS if examinations is None else examinations)]
    findings = [finding for each in running for finding in each.findings(began)]
    clean = tuple(replace(f, found=without_secrets(f.found), mend=without_secrets(f.mend)) for f in findings)
    return Report(clean, any(each.thread.is_alive() for each in running))


class _Running:
    """One check in a thread that nobody has to wait for: a read from a dead file server cannot be ended."""

    def __init__(self, examination: Examination, setup: Setup) -> None:
        self._examination, self._setup = examination, setup
        self._found: list[Finding] = []
        self.thread = threading.Thread(target=self._run, name=f"doctor-{examination.name}", daemon=True)
        self.thread.start()

    def findings(self, began: float) -> list[Finding]:
        limit = self._examination.seconds
        self.thread.join(max(0.0, began + limit - time.monotonic()))
        if not self.thread.is_alive():
            return self._found
        said = f"the check did not end within {limit:g} s"
        return [*self._found, Finding(self._examination.name, "fault", said, self._examination.hangs)]

    def _run(self) -> None:
        try:
            for finding in self._examination.check(self._setup):
                self._found.append(finding)
        except Exception as error:
            said = " ".join(f"the check itself broke: {type(error).__name__}: {error}".split())[:400]
            self._found.append(Finding(self._examination.name, "fault", said, "report it, with the output of --json"))


def _lines(finding: Finding) -> str:
    text = textwrap.fill(
        finding.found, WIDTH, initial_indent=f"{finding.status:<8} {finding.name:<14} ",
        subsequent_indent=" " * 24, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    if not finding.mend:
        return text
    # A command must be one line to be copied.
    return f"{text}\n{' ' * 24}mend: {finding.mend}"

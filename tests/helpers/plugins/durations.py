"""Pytest plugin that records how long tests take and holds them to their limits.

`--durations-file FILE`, as CI gives it, writes the seconds of each test file and of each test over a second, and
prints what grew since the file was written. An unmarked test may then take 10 s, a `slow` one 60 s and an `e2e` one
300 s; a longer one fails. Without the option nothing is held: a developer's machine may be busy.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

LIMITS_S = {"soak": float("inf"), "gpu": float("inf"), "e2e": 300.0, "slow": 60.0}
UNMARKED_LIMIT_S = 10.0
LISTED_S = 1.0
GREW = 2.0


def limit_of(markers: set[str]) -> float:
    """Return the seconds that a test with these markers may take."""
    return max([UNMARKED_LIMIT_S, *(limit for name, limit in LIMITS_S.items() if name in markers)])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--durations-file", type=Path, help="write the seconds of files and long tests here")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # with workers, their controller hears of all tests
        config.pluginmanager.register(Durations(config.getoption("durations_file")), "durations")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    limit = limit_of({marker.name for marker in item.iter_markers()})
    held = item.config.getoption("durations_file") is not None
    if held and call.when == "call" and report.passed and call.duration > limit:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} took {call.duration:.1f} s, more than its {limit:g} s: make it faster, or mark it "
            "`slow` (60 s) or `e2e` (300 s)"
        )
    return report


class Durations:
    """The record of one run; `path` receives it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.partition("@")[0]] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.path is None:
            return
        record = summarize(self.seconds)
        before = json.loads(self.path.read_text()) if self.path.is_file() else {}
        terminalreporter.section("durations")
        for line in describe(record, before):
            terminalreporter.write_line(line)
        self.path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def summarize(seconds: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return the seconds of each file, and of each test over a second."""
    files: Counter[str] = Counter()
    for test, taken in seconds.items():
        files[test.partition("::")[0]] += taken
    tests = {test: round(taken, 1) for test, taken in seconds.items() if taken >= LISTED_S}
    return {"files": {name: round(taken, 1) for name, taken in files.items()}, "tests": tests}


def describe(record: dict[str, dict[str, float]], before: dict[str, dict[str, float]], most: int = 40) -> list[str]:
    """Return the longest files and tests as lines, each with what it took before if it grew."""
    lines = [f"{sum(record['files'].values()):.0f} s in all"]
    for kind in ("files", "tests"):
        longest = sorted(record[kind].items(), key=lambda each: -each[1])[:most]
        old = before.get(kind, {})
        for name, taken in longest:
            grew = name in old and taken > GREW * max(old[name], LISTED_S)
            lines.append(f"{taken:7.1f} s  {name}" + (f"  (was {old[name]:.1f} s)" if grew else ""))
    return lines

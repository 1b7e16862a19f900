"""Pytest plugin that shares test files among two processes: all that use one Ray cluster in one, the longest first.

pytest-xdist 3.8 ignores its mark `xdist_group` under pytest 9.2 (pytest-xdist's issue 1386), so that groups are made
of file names here, by a scheduler of our own.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECORD = ROOT / ".ci" / "durations.json"


@cache
def group_of(file: str) -> str:
    """Return "ray" for a file that uses the session's cluster, else the file itself: its fixtures are made once."""
    return "ray" if "ray_cluster" in (ROOT / file).read_text() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return two processes for the whole suite, none where files are named: they start sooner and can be debugged."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    return min(2, os.cpu_count() or 1) if whole else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Make a scheduler that gives each group to one process, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    return ByGroup(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort groups by what they took in the recorded run, the longest first; files within a group stay together."""
    known = json.loads(RECORD.read_text())["files"] if RECORD.is_file() else {}
    files = {item: item.nodeid.partition("::")[0] for item in items}
    seconds: Counter[str] = Counter()
    for file in set(files.values()):
        seconds[group_of(file)] += known.get(file, 0)
    items.sort(key=lambda item: (-seconds[group_of(files[item])], group_of(files[item])))

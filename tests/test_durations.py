"""Tests are held to their limits, and their durations are written down."""

import json

import pytest
from helpers.plugins.durations import describe, limit_of, summarize

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("markers", "limit"),
    [(set(), 10), ({"fault"}, 10), ({"slow"}, 60), ({"slow", "e2e"}, 300), ({"soak", "slow"}, float("inf"))],
)
def test_the_widest_marker_sets_the_limit(markers, limit):
    assert limit_of(markers) == limit


def test_files_are_sums_and_short_tests_are_not_listed():
    record = summarize({"a.py::x": 1.25, "a.py::y": 0.5, "b.py::z[1]": 3.0})
    assert record == {"files": {"a.py": 1.8, "b.py": 3.0}, "tests": {"a.py::x": 1.2, "b.py::z[1]": 3.0}}


def test_what_grew_is_said():
    record = {"files": {"a.py": 9.0, "b.py": 5.0}, "tests": {}}
    lines = describe(record, {"files": {"a.py": 3.0, "b.py": 4.0}})
    assert lines == ["14 s in all", "    9.0 s  a.py  (was 3.0 s)", "    5.0 s  b.py"]


def test_a_test_over_its_limit_fails_and_the_record_is_written(pytester, monkeypatch):
    pytester.makepyfile(
        """
        import time
        import pytest

        def test_long():
            time.sleep(0.2)

        @pytest.mark.slow
        def test_marked():
            time.sleep(0.2)

        def test_short():
            pass
        """
    )
    pytester.makeini("[pytest]\nmarkers = slow: x")
    with monkeypatch.context() as patched:
        patched.setattr("helpers.plugins.durations.UNMARKED_LIMIT_S", 0.1)
        done = pytester.runpytest_inprocess(
            "-p", "helpers.plugins.durations", "--durations-file=record.json", "-p", "no:xdist"
        )
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*test_long took 0.2 s, more than its 0.1 s*"])
    assert set(json.loads((pytester.path / "record.json").read_text())) == {"files", "tests"}

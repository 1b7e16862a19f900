"""Where the time of a sweep went: moments from several processes, in the order in which they were."""

import json
import os
import time

import psutil
import pytest

from raydistill.sweep.display.timings import CLOSED, RAY, SETTINGS, STEP, WORKER, Timings


@pytest.fixture
def timings():
    """Of a process that started at 100 s, on a clock that says what it is told."""
    made = Timings(100.0, lambda: made.now)
    return made


def test_moments_are_counted_from_the_start_of_the_process_in_their_order(timings):
    for timings.now, what in ((104.0, SETTINGS), (109.5, RAY), (130.0, CLOSED)):
        timings.mark(what)
    timings.told({STEP: 117.0, WORKER: 115.0})
    assert timings.seconds() == {SETTINGS: 4.0, RAY: 9.5, WORKER: 15.0, STEP: 17.0, CLOSED: 30.0}
    assert list(timings.seconds()) == [SETTINGS, RAY, WORKER, STEP, CLOSED]
    assert timings.table().body[2] == [WORKER, "15.0 s", "5.5 s"]


def test_a_sweeps_folder_keeps_them(timings, tmp_path):
    timings.now = 101.234
    timings.mark(SETTINGS)
    timings.write(tmp_path)
    assert json.loads((tmp_path / "timings.json").read_text()) == {SETTINGS: 1.23}


def test_without_a_start_they_count_from_that_of_this_process():
    made = Timings()
    made.mark(SETTINGS)
    own = time.time() - psutil.Process(os.getpid()).create_time()
    assert made.seconds()[SETTINGS] == pytest.approx(own, abs=1.1), "psutil knows when the machine started to a second"

"""How many trials of a search live at once: each has a process, and all of them are on the driver's node."""

from types import SimpleNamespace

import pytest

from raydistill.sweep import tune_search as module
from raydistill.sweep.tune_search import TRIAL_BYTES, TuneSearch

KEYS = [f"t{number:04d}" for number in range(64)]


@pytest.mark.parametrize(
    ("scheduled", "free", "room"),
    [
        pytest.param(True, 20 * TRIAL_BYTES, 10, id="half of the free memory"),
        pytest.param(True, 1000 * TRIAL_BYTES, 32, id="the packs' room"),
        pytest.param(True, 0, 1, id="one, however little is free"),
        pytest.param(False, 0, 32, id="no scheduler, no processes"),
    ],
)
def test_free_memory_bounds_the_trials_of_a_search(monkeypatch, scheduled, free, room):
    status = SimpleNamespace(remote=lambda: {"room": 32})
    monkeypatch.setattr(module.ray, "get", lambda answer: answer)
    monkeypatch.setattr(module, "usable_memory", lambda: float(free))
    context = SimpleNamespace(broker=SimpleNamespace(status=status))
    phase = SimpleNamespace(metric="val_knn", goal="maximize", seeds=1, scheduler=object if scheduled else None)
    assert TuneSearch(context, phase, [], KEYS).room == room

"""Replays of searches on a recorded grid: what they choose, what they cost, and how they are judged."""

import importlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
EPOCHS = 9


@pytest.fixture(scope="module")
def search():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "analysis" / "benchmarks"))
        yield importlib.import_module("search")


@pytest.fixture(scope="module")
def grid(search):
    """Nine points whose order is the same in every epoch and for both seeds; the last one is the best."""
    settings = [{"train.lr": lr, "train.warmup_epochs": warmup} for lr in (0.1, 0.2, 0.3) for warmup in (0.0, 1.0, 2.0)]
    curves = [[[(point + epoch) / 20 for epoch in range(EPOCHS)]] * 2 for point in range(9)]
    return search.Grid("simclr", settings, curves)


@pytest.mark.parametrize("name", ["random", "tpe", "random, asha 2, 3", "tpe, asha 2, 3", "tpe, median 2"])
def test_a_search_spends_whole_epochs_and_ends_with_the_best_point_of_an_easy_grid(search, grid, name):
    trace = search.replay(grid, search.SEARCHES[name], seen=0, seed=1)
    spent, chosen = zip(*trace, strict=True)
    assert list(spent) == list(range(1, len(spent) + 1))
    assert chosen[-1] == 8
    if search.SEARCHES[name].stop is None:
        assert len(spent) == grid.cost, "each point once, to its end"
    else:
        assert len(spent) < grid.cost
    assert trace == search.replay(grid, search.SEARCHES[name], seen=0, seed=1)


def test_a_search_sees_one_seed_and_is_judged_by_all(search):
    """By seed 0 the first point is the best, over both the second."""
    settings = [{"train.lr": 0.1}, {"train.lr": 0.2}]
    grid = search.Grid("simclr", settings, [[[0.9] * EPOCHS, [0.1] * EPOCHS], [[0.8] * EPOCHS, [0.8] * EPOCHS]])
    assert [grid.choice(0), grid.choice(1)] == [0, 1]
    trace = search.replay(grid, search.Search("random"), seen=0, seed=0)
    assert trace[-1][1] == 0
    judged = search.judge(grid, trace, seen=0)
    assert judged["near"] == pytest.approx(1 / grid.cost, abs=1), "near the grid's own choice, which saw the same"
    assert judged["regrets"][-1] == 0
    assert judged["time"] == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=30))
def test_near_for_good_is_the_first_moment_after_which_no_choice_is_far(search, found):
    grid = search.Grid("simclr", [{}] * 3, [[[0.5] * 10], [[0.497] * 10], [[0.4] * 10]])
    trace = [(number + 1, point) for number, (point, _) in enumerate(found)]
    judged = search.judge(grid, trace, seen=0)
    far = [spent for spent, point in trace if point == 2]
    if far and far[-1] == trace[-1][0]:
        assert judged["near"] is None
    else:
        assert judged["near"] == ((far[-1] if far else 0) + 1) / grid.cost
    assert judged["regrets"][-1] == pytest.approx(0.5 - grid.quality(trace[-1][1]))


def test_trials_that_have_ended_decide_before_those_that_run(search):
    """A high score of a trial that is still running is a score of a short budget."""
    settings = [{"train.lr": 0.1}, {"train.lr": 0.2}]
    curves = [[[0.5] * EPOCHS], [[0.9] + [0.1] * (EPOCHS - 1)]]
    trace = search.replay(search.Grid("simclr", settings, curves), search.Search("random"), seen=0, seed=0)
    assert trace[-1][1] == 0
    assert not math.isnan(trace[-1][0])


def test_recorded_grids_are_whole_and_the_page_has_their_table(search):
    recorded = [search.load(path) for path in sorted(search.GRIDS.glob("*.json"))]
    assert recorded
    for grid in recorded:
        assert grid.seeds == 2
        assert {len(curve) for point in grid.curves for curve in point} == {EPOCHS}
        values = {path: {json.dumps(each[path]) for each in grid.settings} for path in grid.settings[0]}
        assert len(grid.settings) == math.prod(map(len, values.values())) == len(grid.index()), "every combination once"


def test_the_replay_runs(search, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["search.py", "--quick", "--only", "random", "tpe, asha 2, 3"])
    search.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result) == {path.stem for path in search.GRIDS.glob("*.json")}
    assert all(set(each) == {"default", "best", "best_near"} for each in result.values())

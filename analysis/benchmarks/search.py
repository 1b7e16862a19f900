"""Replays searches on recorded grids: how soon does each decide as well as the whole grid? Nothing is trained.

    python analysis/benchmarks/search.py [--seeds 50] [--grid PATH ...] [--only NAME ...] [--quick]

A grid (analysis/grids, made by analysis/grids.py) has the learning curves of every point with two seeds. A search sees
one seed's scores. What it would choose is the point with the best score so far, and at its end the best of the trials
that were trained to theirs. The choice is judged by the mean final score over both seeds, beside the choice of the
whole grid, which sees the same one seed and takes its best final score. Time is counted in trial-epochs, as a share of
the grid's. Proposals and early stopping are those of a sweep: `make_proposer`, `make_scheduler`, and as many trials at
once. Searches have 24 trials where their name does not say otherwise.

Each search is replayed over --seeds seeds of its own for each of the grid's seeds. Printed for each: the share of
the grid's time until its choice is within half a point of the grid's for good (median over the replays; – where over
half never are), how far the choice is below the grid's at 5 to 100 % (mean, in points), and the search's whole time.
Last line: the medians of the default search, and of the best.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raydistill import config as configuration
from raydistill.presets import load_preset
from raydistill.records.journal import Outcome
from raydistill.storage import Remote
from raydistill.sweep.search.samplers import FixedProposer, PriorTrials, Proposer, make_proposer
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.space_parser import parse_space
from raydistill.sweep.workers.capacity import INITIAL_LEARNERS
from raydistill.table import Table

GRIDS = Path(__file__).parents[1] / "grids"
TRIALS = 24
NEAR = 0.005  # half a point
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
PRESET = "cpu"  # of the recorded grids
IMAGES = 2000  # that their trials are scored on
ASHA = {"type": "asha", "min_iter": 2, "eta": 3}
Settings = dict[str, Any]
Trace = list[tuple[int, int]]
"""(trial-epochs spent, point chosen) after every epoch of a search."""


NOWHERE = Remote("s3://nowhere")  # a search whose folder is no directory keeps its study in memory
CONTROLLER = SimpleNamespace(get_live_trials=list)  # the median rule asks Tune's for paused trials; none ever is


@dataclass(frozen=True)
class Grid:
    """The points of a grid and their curves, [point][seed][epoch]."""

    name: str
    settings: list[Settings]
    curves: list[list[list[float]]]

    @property
    def epochs(self) -> int:
        return len(self.curves[0][0])

    @property
    def cost(self) -> int:
        return len(self.settings) * self.epochs

    @property
    def seeds(self) -> int:
        return len(self.curves[0])

    def quality(self, point: int) -> float:
        """The final score of a point over all seeds."""
        return statistics.fmean(curve[-1] for curve in self.curves[point])

    def choice(self, seed: int) -> int:
        """What the whole grid chooses by one seed."""
        return max(range(len(self.settings)), key=lambda point: self.curves[point][seed][-1])

    def index(self) -> dict[str, int]:
        return {_key(settings): point for point, settings in enumerate(self.settings)}


@dataclass(eq=False)
class Trial:
    """What Tune's schedulers look at."""

    trial_id: str
    config: dict[str, str]
    status: str = "RUNNING"


class ByConfidence:
    """Stop a trial that is below the best one of the same epoch by more than the standard error of the difference."""

    def __init__(self, least: int = 2) -> None:
        self._best: dict[int, float] = {}
        self._least = least

    def set_search_properties(self, metric: str, mode: str) -> None:
        """Do nothing: accuracies are better when they are larger."""

    def on_trial_add(self, controller: Any, trial: Trial) -> None:
        """Do nothing."""

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        epoch, score = result["epoch"], result["val_knn"]
        best = self._best[epoch] = max(score, self._best.get(epoch, 0.0))
        error = math.sqrt(2 * best * (1 - best) / IMAGES)
        return "STOP" if epoch >= self._least and score < best - error else "CONTINUE"

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Search:
    """A way to search: `method`, `sampler` and `stop` as a space has them; `preset`: its settings are tried first."""

    method: str
    sampler: str | None = None
    stop: dict[str, Any] | None = None
    trials: int = TRIALS
    preset: bool = False

    @property
    def width(self) -> int:
        """Trials at once, as `sweep.run` has it."""
        return max(INITIAL_LEARNERS, self.trials // 4) if self.method == "bayes" else self.trials


SEARCHES = {
    "random": Search("random"),
    "random, asha 2, 3": Search("random", stop=ASHA),
    "random, asha 1, 3": Search("random", stop=ASHA | {"min_iter": 1}),
    "tpe": Search("bayes", "tpe"),
    "tpe, asha 2, 3": Search("bayes", "tpe", ASHA),
    "tpe, asha 1, 3": Search("bayes", "tpe", ASHA | {"min_iter": 1}),
    "tpe, asha 1, 4": Search("bayes", "tpe", ASHA | {"min_iter": 1, "eta": 4}),
    "tpe, asha 1, 2": Search("bayes", "tpe", ASHA | {"min_iter": 1, "eta": 2}),
    "tpe, median 2": Search("bayes", "tpe", {"type": "median", "min_iter": 2}),
    "tpe, by confidence": Search("bayes", "tpe", {"type": "confidence"}),
    "gp, asha 2, 3": Search("bayes", "gp", ASHA),
    "gp, asha 1, 3": Search("bayes", "gp", ASHA | {"min_iter": 1}),
    "preset first, tpe, asha 2, 3": Search("bayes", "tpe", ASHA, preset=True),
    "preset first, tpe, asha 1, 3": Search("bayes", "tpe", ASHA | {"min_iter": 1}, preset=True),
    "preset first, gp, asha 2, 3": Search("bayes", "gp", ASHA, preset=True),
    "tpe, asha 2, 3, 8 trials": Search("bayes", "tpe", ASHA, trials=8),
    "tpe, asha 2, 3, 16 trials": Search("bayes", "tpe", ASHA, trials=16),
}
DEFAULT = "tpe, asha 2, 3"


def load(path: Path) -> Grid:
    """Read a grid that analysis/grids.py recorded."""
    points = json.loads(path.read_text())["points"]
    return Grid(path.stem, [each["settings"] for each in points], [each["curves"] for each in points])


def replay(grid: Grid, search: Search, *, seen: int, seed: int) -> Trace:
    """Run a search on a grid: trials that run together take an epoch each in turn.

    Args:
        grid: what it may try.
        search: how.
        seen: the grid's seed whose scores it sees.
        seed: of the search.
    """
    index, scores = grid.index(), [point[seen] for point in grid.curves]
    proposer, scheduler = _parts(grid, search, seed)
    running: dict[str, list[int]] = {}  # point, epoch
    ended: dict[int, float] = {}
    best: dict[int, float] = {}
    trace: Trace = []
    begun, left = 0, True
    while left or running:
        while left and len(running) < search.width:
            key = f"t{begun:04}"
            settings = proposer.propose(key) if begun < search.trials else None
            if settings is None:
                left = False
                break
            begun += 1
            running[key] = [index[_key(settings)], 0]
            scheduler.on_trial_add(CONTROLLER, _trial(key))
        for key, state in list(running.items()):
            point, epoch = state[0], state[1] + 1
            state[1], score = epoch, scores[state[0]][epoch - 1]
            metrics = {"val_knn": score}
            proposer.observe(key, epoch, metrics)
            best[point] = max(score, best.get(point, -math.inf))
            outcome = _outcome(scheduler, key, epoch, score, grid.epochs)
            if outcome:
                del running[key]
                proposer.finish(key, outcome, metrics)
                if outcome == "finished":
                    ended[point] = score
            known = best if left or running else ended
            trace.append((len(trace) + 1, max(known, key=lambda each: known[each])))
    return trace


def _outcome(scheduler: Any, key: str, epoch: int, score: float, epochs: int) -> Outcome | None:
    """How a trial ends with this epoch, if it does, as a sweep tells it."""
    result = {"epoch": epoch, "val_knn": score}
    if epoch == epochs:
        scheduler.on_trial_complete(CONTROLLER, _trial(key), result)
        return "finished"
    if scheduler.on_trial_result(CONTROLLER, _trial(key), result) == "CONTINUE":
        return None
    scheduler.on_trial_complete(CONTROLLER, _trial(key), result)
    return "stopped_early"


def _parts(grid: Grid, search: Search, seed: int) -> tuple[Proposer, Any]:
    values: dict[str, list[Any]] = {}
    for settings in grid.settings:
        for path, value in settings.items():
            values.setdefault(path, [])
            if value not in values[path]:
                values[path].append(value)
    content: dict[str, Any] = {"method": search.method, "metric": {"name": "val_knn"}}
    content["parameters"] = {path: {"values": found} for path, found in values.items()}
    content |= {"sampler": search.sampler} if search.sampler else {}
    ours = search.stop is None or search.stop["type"] != "confidence"
    content |= {"early_terminate": search.stop} if search.stop and ours else {}
    space = parse_space(content, grid.name, grid.name, {})
    scheduler = make_scheduler(space, grid.name, grid.epochs, []) if ours else ByConfidence()
    scheduler.set_search_properties("val_knn", "max")
    if search.method == "random":  # each point once: what a random search of a list is at its best
        rest = random.Random(seed).sample(grid.settings, min(search.trials, len(grid.settings)))
        return FixedProposer(rest), scheduler
    earlier = PriorTrials(hints=[_of_preset(grid.name, values)]) if search.preset else None
    options: dict[str, Any] = {"trials": search.trials, "seed": seed, "name": "replay", "earlier": earlier}
    return make_proposer(space, directory=NOWHERE, **options), scheduler


def _of_preset(method: str, values: dict[str, list[Any]]) -> Settings:
    """The point of the grid that is nearest to the preset that the grid was recorded with."""
    preset = configuration.load(load_preset(method, PRESET))
    own = {path: getattr(getattr(preset, path.split(".")[0]), path.split(".")[1]) for path in values}
    return {path: min(found, key=lambda value: abs(math.log(value / own[path]))) for path, found in values.items()}


def judge(grid: Grid, trace: Trace, seen: int) -> dict[str, Any]:
    """When a search was near the grid's choice for good, as a share of the grid, and how far off at each share."""
    goal = grid.quality(grid.choice(seen))
    below = [(spent / grid.cost, goal - grid.quality(point)) for spent, point in trace]
    far = [share for share, regret in below if regret > NEAR]
    near = None if below[-1][1] > NEAR else next(share for share, _ in below if share > max(far, default=0.0))
    regrets = [next((regret for share, regret in reversed(below) if share <= limit), math.nan) for limit in SHARES]
    return {"near": near, "regrets": regrets, "time": below[-1][0]}


def rows(grid: Grid, searches: dict[str, Search], seeds: int) -> Iterator[tuple[str, float | None, list[str]]]:
    """Name, median share until near, and a table's cells, of each search."""
    for name, search in searches.items():
        found = [
            judge(grid, replay(grid, search, seen=seen, seed=seed), seen)
            for seed in range(seeds)
            for seen in range(grid.seeds)
        ]
        near = statistics.median(math.inf if each["near"] is None else each["near"] for each in found)
        share = statistics.fmean(each["near"] is not None for each in found)
        regrets = [100 * statistics.fmean(column) for column in zip(*(each["regrets"] for each in found), strict=True)]
        time = statistics.median(each["time"] for each in found)
        cells = [name, "–" if math.isinf(near) else f"{near:.1%}", f"{share:.0%}"]
        cells += [f"{regret:.2f}" for regret in regrets] + [f"{time:.0%}"]
        yield name, None if math.isinf(near) else near, cells


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


@functools.cache
def _trial(key: str) -> Any:
    return Trial(key, {"key": key})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="of each search")
    parser.add_argument("--grid", type=Path, nargs="*", default=sorted(GRIDS.glob("*.json")), help="recorded grids")
    parser.add_argument("--only", nargs="*", choices=SEARCHES, default=list(SEARCHES), help="searches")
    parser.add_argument("--quick", action="store_true", help="two seeds: a check that it runs")
    given = parser.parse_args()
    searches = {name: SEARCHES[name] for name in given.only}
    result: dict[str, Any] = {}
    for path in given.grid:
        grid = load(path)
        print(f"{grid.name}: {len(grid.settings)} points of {grid.epochs} epochs, {grid.seeds} seeds")
        medians, body = {}, []
        for name, near, cells in rows(grid, searches, 2 if given.quick else given.seeds):
            medians[name] = near
            body.append(cells)
        head = ["search", "near for good", "ever", *(f"below at {share:.0%}" for share in SHARES), "its time"]
        print(Table(head, body).markdown(), flush=True)
        reached = {name: near for name, near in medians.items() if near is not None}
        best = min(reached, key=lambda name: reached[name]) if reached else None
        result[grid.name] = {"default": medians.get(DEFAULT), "best": best, "best_near": reached.get(best or "")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

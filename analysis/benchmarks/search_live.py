"""How soon a search finds what a plain grid finds: the same points, with early stopping and packs.

    python analysis/benchmarks/search_live.py [--data digits] [--limit N] [--epochs 9] [--eta 3] [--quick]

1. grid: every point of a grid over SEED's temperatures and the learning rate, to its end, one after the other;
2. search: the same points in another order, ASHA, packs of any size.

Both run through the same sweep, score validation images after every epoch, and find their teacher ready. The
clock of each starts when its first learner has ended an epoch (Ray's start is left out of both). Printed: the best
score so far against time. Last line: {"time_to_grid_best": seconds until the search had reached the grid's best
final score, as a share of the whole grid's seconds; null if it did not in every repeat}, and how far it came. Grid
and search are repeated, in turn; a share is the median over the repeats, and its spread the least and the most.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import ray
import yaml
from measure import MIN_REPEATS, as_json, spread

from raydistill import config as configuration
from raydistill.config import Config
from raydistill.presets import load_preset
from raydistill.sweep.run import run_sweep
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher

FULL = {
    "method.tau_t": [0.001, 0.01, 0.1, 0.3],
    "method.tau_s": [0.1, 0.5],
    "train.lr": [1e-3, 3e-3, 1e-2],
}
QUICK = {"method.tau_t": [0.01, 0.1], "train.lr": [1e-3, 1e-2]}
MOMENT_S = 1e-3  # the clock starts with the first score, which may be the best
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
Curve = list[tuple[float, float, int, str]]


def settings(folder: Path, name: str, base: Config, points: dict, stop: dict | None, **values: object) -> SweepSettings:
    space = {"method": "grid", "parameters": {path: {"values": list(v)} for path, v in points.items()}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(space | ({"early_terminate": stop} if stop else {})))
    loaded = load_space(file, "seed", {})
    return SweepSettings(
        name=name,
        storage=folder,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=base,
        space=loaded,
        trials=len(loaded.grid()),
        seeds=1,
        artifacts=folder / "artifacts",
        **values,
    )


def curve(directory: Path) -> Curve:
    """(seconds, val_knn, epoch, trial) of every scored epoch of the search's trials, in order of time."""
    events = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
    found = [
        (event["time"], event["metrics"]["val_knn"], event["epoch"], event["key"])
        for event in events
        if event["event"] == "result" and event["key"].startswith("t0")
    ]
    began = found[0][0]
    return [(when - began, *rest) for when, *rest in found]


def best_until(points: Curve, seconds: float) -> float:
    return max((value for when, value, *_ in points if when <= seconds), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a data set as `sweep.py --data` takes it")
    parser.add_argument("--limit", type=int, help="images of each split at most")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--eta", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help="of grid and search")
    parser.add_argument("--quick", action="store_true", help="few points, two epochs: a check that it runs")
    given = parser.parse_args()
    points, epochs = (QUICK, 2) if given.quick else (FULL, given.epochs)
    logging.getLogger("ray").setLevel(logging.ERROR)
    values = configuration.assign(load_preset("seed", "default"), {"method.name": "seed", "train.epochs": epochs})
    if given.quick:
        small = {
            "data.limit": 60,
            "data.image_size": 8,
            "data.batch_size": 16,
            "method.queue_size": 16,
            "method.backbone": "resnet10_w4",
            "teacher.backbone": "resnet10_w4",
        }
        values = configuration.assign(values, small)
    data = {"data.source": given.data} | ({"data.limit": given.limit} if given.limit else {})
    base = with_own_teacher(configuration.load(configuration.assign(values, data)))
    shuffled = {path: random.Random(0).sample(v, len(v)) for path, v in reversed(points.items())}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stop = {"type": "asha", "min_iter": 1, "eta": given.eta}
        # The teacher first, for both.
        run_sweep(settings(folder, "teacher", base, {"train.lr": [1e-3]}, None, threads=given.threads))
        pairs = []
        for repeat in range(given.repeats):
            search = settings(folder, f"search-{repeat}", base, shuffled, stop, learners=None, threads=given.threads)
            grid = settings(folder, f"grid-{repeat}", base, points, None, learners=1, threads=given.threads)
            for arm in (search, grid):
                run_sweep(arm)
            pairs.append((curve(grid.directory), curve(search.directory)))
    ray.shutdown()
    full, found = pairs[0]
    total = full[-1][0]
    print(
        f"{grid.trials} points of {epochs} epochs: the first grid took {total:.0f} s and {len(full)} trial-epochs, "
        f"the search {found[-1][0]:.0f} s and {len(found)}"
    )
    print("share of the grid's time   " + "".join(f"{share:>9.0%}" for share in SHARES))
    for label, arm in (("grid", full), ("search", found)):
        print(f"best val_knn, {label:12} " + "".join(f"{100 * best_until(arm, s * total):>9.2f}" for s in SHARES))
    print(json.dumps(conclusion(pairs, epochs)))


def conclusion(pairs: list[tuple[Curve, Curve]], epochs: int) -> dict[str, Any]:
    """The last line, out of the curves of grid and search of each repeat."""
    goals = [max(value for _, value, epoch, _ in full if epoch == epochs) for full, _ in pairs]
    bests = [max(value for _, value, epoch, _ in found if epoch == epochs) for _, found in pairs]
    seconds = [found[-1][0] / full[-1][0] for full, found in pairs]
    figures = {"search_seconds": spread(seconds)}
    result: dict[str, Any] = {}
    for name, below in (("time_to_grid_best", 0.0), ("time_to_within_half_a_point", 0.005)):
        shares = [share_until(full, found, goal - below) for (full, found), goal in zip(pairs, goals, strict=True)]
        reached = [share for share in shares if share is not None]
        if len(reached) < len(shares):
            result[name] = result[f"{name}_spread"] = None
        else:
            figures[name] = spread(reached)
    return result | as_json(figures) | as_json({"grid_best": spread(goals), "search_best": spread(bests)}, 4)


def share_until(full: Curve, found: Curve, goal: float) -> float | None:
    """When the search had this score, as a share of the grid's seconds; None if it never had."""
    reached = next((when for when, value, *_ in found if value >= goal), None)
    return None if reached is None else max(reached, MOMENT_S) / full[-1][0]


if __name__ == "__main__":
    main()

"""Which learning rate, warm-up and optimiser suit each method in the preset `default`? One grid sweep of each answers.

    python analysis/rates.py [--only METHOD ...] [--seeds 2]

On scikit-learn's digits, every point of `spaces/rates.yaml` with as many seeds; its score is their mean k-NN on
validation images. A method that is known is left alone and an interrupted sweep goes on, so the script may be stopped
at any moment. Writes rates.json and rates.md, beside this file or into --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd

import raydistill
from raydistill.records.noise import spread
from raydistill.table import Table
from raydistill.training.messages import seed_metric

HERE = Path(__file__).parent
SPACE = HERE / "spaces" / "rates.yaml"
METHODS = ["simclr", "dogo", "seed", "simreg", "sssd", "sdssl", "mocov2", "byol", "simsiam", "mocov3"]
SEARCHED = ["train.optimizer", "train.lr", "train.warmup_epochs"]
METRIC = "val_knn"
SHOWN = 4
Point = dict[str, Any]
"""A point of the grid: what was searched, and the score of each seed."""


def measure(method: str, seeds: int, work: Path) -> list[Point]:
    """Run the sweep of a method, or go on with it; its points, the best first.

    Args:
        method: its name.
        seeds: of every point.
        work: folder of sweeps, teachers and MLflow's file.
    """
    folder = work / "sweeps" / method
    begun = (folder / "sweep.yaml").exists()
    if not begun or raydistill.load_sweep(folder).winner is None:
        raydistill.run_sweep(
            method,
            resume=begun,
            name=method,
            search_space=SPACE,
            set={"eval.every": 10},  # its last epoch
            seeds_per_trial=seeds,
            seeds=1,
            baseline_search=False,
            threads=1,
            storage=work / "sweeps",
            artifacts=work / "artifacts",
            tracking_uri=f"sqlite:///{(work / 'mlflow.db').absolute()}",
        )
    trials = raydistill.load_sweep(folder).trials()
    return points(trials[(trials.role == "search") & (trials.outcome == "finished")], seeds)


def points(trials: pd.DataFrame, seeds: int) -> list[Point]:
    """The finished trials of a search, the best first.

    Args:
        trials: as `Sweep.trials` returns them.
        seeds: of each.
    """
    scores = [seed_metric(METRIC, seed) for seed in range(seeds)] if seeds > 1 else [METRIC]
    found = [
        {path: row[path] for path in SEARCHED} | {"scores": [float(row[name]) for name in scores]}
        for row in trials.to_dict("records")
    ]
    return sorted(found, key=mean, reverse=True)


def mean(point: Point) -> float:
    return statistics.fmean(point["scores"])


def preset_point(method: str) -> Point:
    """What the preset says of the searched settings."""
    train = raydistill.load_config(method).train
    return {path: getattr(train, path.partition(".")[2]) for path in SEARCHED}


def report(results: dict[str, list[Point]]) -> str:
    """Markdown: the best points of each method, and the one of its preset."""
    lines = [
        "# Learning rate, warm-up and optimiser",
        "",
        "By `python analysis/rates.py`, on scikit-learn's digits: mean k-NN on validation images over the seeds of a",
        f"point, in percent. The {SHOWN} best points of each method, and its preset's.",
    ]
    for method, found in results.items():
        wanted = preset_point(method)
        rows = []
        for rank, point in enumerate(found, start=1):
            of_preset = all(point[path] == value for path, value in wanted.items())
            if rank <= SHOWN or of_preset:
                settings = [point["train.optimizer"], *(f"{point[path]:g}" for path in SEARCHED[1:])]
                rows.append([str(rank), *settings, f"{100 * mean(point):.1f}", "preset" if of_preset else ""])
        deviation = spread([point["scores"] for point in found])
        lines += ["", f"## {method}", "", f"{len(found)} points of {len(found[0]['scores'])} seeds finished."]
        if deviation is not None:
            lines[-1] += f" Scores of one point vary by {100 * deviation:.1f} points over seeds."
        lines += ["", Table(["rank", "optimiser", "lr", "warm-up epochs", METRIC, ""], rows).markdown()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument("--seeds", type=int, default=2, help="of every point [2]")
    parser.add_argument("--work", type=Path, default=Path("runs/rates"), help="sweeps and teachers [runs/rates]")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of rates.json and rates.md")
    given = parser.parse_args()
    file = given.out / "rates.json"
    results: dict[str, list[Point]] = json.loads(file.read_text()) if file.exists() else {}
    for method in given.only:
        if method not in results:
            results[method] = measure(method, given.seeds, given.work.absolute())
            given.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
            (given.out / "rates.md").write_text(report(results))
            print(f"{method}: done", flush=True)
    if results:
        (given.out / "rates.md").write_text(report(results))


if __name__ == "__main__":
    main()

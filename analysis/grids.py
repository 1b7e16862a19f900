"""Records whole grids on CIFAR-10, every point to its end with two seeds, so that searches can be replayed on them.

    python analysis/grids.py --data path/to/cifar10 [--only NAME ...]

Half an hour each on a core. `benchmarks/search.py` reads what is kept in `grids/`: settings and learning curves, with
the command and versions that they come from. A grid that is kept is left alone, one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from raydistill.records.journal import TrialRecord, read_records
from raydistill.records.layout import JOURNAL_FILE, ORIGIN_FILE, RESULTS_FILE
from raydistill.training.messages import seed_metric

HERE = Path(__file__).parent
KEPT = HERE / "grids"
METRIC = "val_knn"
EPOCHS, SEEDS = 9, 2
OPTIONS = ["--preset", "cpu", "--data", "cifar10", "--epochs", str(EPOCHS), "--seeds-per-trial", str(SEEDS)]
OPTIONS += ["--trials", "1000", "--seeds", "1", "--no-baseline-search", "--threads", "1", "--learners", "12"]
OPTIONS += ["--set", "data.limit=2000", "--set", "eval.every=1"]
GRIDS = {
    "seed": ["--set", "method.backbone=resnet10_w8"],
    "dogo": ["--set", "method.backbones=[resnet10_w8, resnet10_w16]"],
}


def command(name: str) -> list[str]:
    """What one would type beside `spaces` and a folder `cifar10`."""
    space = ["--search-space", f"spaces/grid-{name}.yaml"]
    return ["sweep.py", "--method", name, "--name", f"grid-{name}", *space, *OPTIONS, *GRIDS[name]]


def curves(record: TrialRecord) -> list[list[float]]:
    """The score of each epoch, a list for each seed."""
    names = [seed_metric(METRIC, number) for number in range(SEEDS)]
    return [[round(record.results[epoch][name], 5) for epoch in sorted(record.results)] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a folder of images or Parquet files")
    parser.add_argument("--only", nargs="*", choices=GRIDS, default=list(GRIDS), metavar="NAME")
    parser.add_argument("--work", type=Path, default=Path("grids-work"), help="sweeps, teachers, MLflow")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for link, target in (("cifar10", given.data.resolve()), ("spaces", HERE.resolve() / "spaces")):
        if not (given.work / link).exists():
            (given.work / link).symlink_to(target)
    for name in given.only:
        target = KEPT / f"{name}.json"
        if target.exists():
            print(f"{name}: there already", flush=True)
            continue
        began = time.monotonic()
        program, *words = command(name)
        sweep = given.work / "runs" / f"grid-{name}"
        if not (sweep / RESULTS_FILE).exists():
            words.append("--resume-or-start")
            subprocess.run([sys.executable, HERE.parent.resolve() / program, *words], cwd=given.work, check=True)
        records = read_records(sweep / JOURNAL_FILE)
        searched = [each for key, each in records.items() if re.fullmatch(r"t\d+", key)]
        whole = [each for each in searched if each.epochs == EPOCHS]
        environment = json.loads((sweep / ORIGIN_FILE).read_text())["environment"]
        environment.pop("system", None)
        kept = {
            "command": " ".join(command(name)),
            "environment": environment,
            "metric": METRIC,
            "points": [{"settings": each.settings, "curves": curves(each)} for each in whole],
        }
        KEPT.mkdir(exist_ok=True)
        target.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{name}: {len(whole)} points, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Runs published experiments at scale `cpu` on CIFAR-10, and keeps what they show.

    python analysis/experiments.py --data path/to/cifar10                    # all that are missing: hours
    python analysis/experiments.py --data path/to/cifar10 simreg/head-depth  # or some

Each is the command `python sweep.py --experiment NAME --scale cpu --data cifar10`, in the folder --work. Further
options, such as --learners 12, are passed on to it. The same command goes on after a stop: an experiment that is kept
is left alone, one that was interrupted resumes. Of the sweep's folder all is kept but checkpoints, Ray's files and
names of the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kept import COMMON, keep

from raydistill.records.journal import read_records
from raydistill.records.layout import EXPERIMENT_FILE, JOURNAL_FILE, RESULTS_FILE, TABLE_FILE
from raydistill.records.leaderboard import LeaderboardEntry, is_reference, unit_of
from raydistill.table import Table

HERE = Path(__file__).parent
KEPT = HERE / "experiments"
EXPERIMENTS = (
    "simreg/head-depth",
    "simreg/inference-layer",
    "seed/learning-rate",
    "seed/strategies",
    "sssd/label-sources",
    "sdssl/exits",
    "sdssl/diagnostics",
    "dogo/noise",
    "dogo/label-fractions",
    "ours/head-to-head",
    "ours/simreg-exits",
    "ours/seed-blocks",
    "ours/dogo-three-peers",
    "ours/simreg-many-teachers",
)


def command(name: str) -> list[str]:
    """What one would type beside a folder `cifar10`."""
    options = ["--scale", "cpu", "--data", "cifar10", "--threads", "1"]
    return ["sweep.py", "--experiment", name, *options, "--name", sweep_name(name), "--resume-or-start"]


def sweep_name(name: str) -> str:
    return f"{name.replace('/', '-')}-cpu"


def kept() -> list[str]:
    """Names of the experiments whose results are here."""
    return sorted("/".join(file.parent.relative_to(KEPT).parts) for file in KEPT.glob("*/*/" + RESULTS_FILE))


def overview() -> str:
    """The claims of all kept experiments as Markdown, and what became of each."""
    return Table(["experiment", "claim", "score", "difference here", "95 % interval", "verdict"], [*_rows()]).markdown()


def _rows() -> Iterator[list[str]]:
    for name in kept():
        experiment = json.loads((KEPT / name / EXPERIMENT_FILE).read_text())
        link = f"[{name}](experiments/{name}/{TABLE_FILE})"
        for claim in experiment["results"] or [None]:
            if claim is None:
                yield [link, "none: a comparison", *["–"] * 4]
                continue
            said = f"{claim['better']} beats {claim['worse']}"
            if claim["mean"] is None:
                yield [link, said, claim["metric"], "–", "–", claim["verdict"]]
                continue
            factor, digits = unit_of(claim["metric"])
            mean, low, high = (f"{factor * claim[end]:+.{digits}f}" for end in ("mean", "low", "high"))
            yield [link, said, claim["metric"], mean, f"{low} to {high}", claim["verdict"]]


def comparison(name: str = "ours/head-to-head", against: str = "simclr") -> str:
    """Scores of a kept experiment's rows as Markdown, and how far each arm is from one of them, with intervals.

    Args:
        name: of the experiment.
        against: the arm that the others are compared with, by the claims of the experiment.
    """
    described = json.loads((KEPT / name / EXPERIMENT_FILE).read_text())
    rows = {row["name"]: LeaderboardEntry(**row) for row in json.loads((KEPT / name / RESULTS_FILE).read_text())}
    tried = read_records(KEPT / name / JOURNAL_FILE)
    claims = {(each["better"], each["metric"]): each for each in described["results"] if each["worse"] == against}
    order = [*described["arms"], *(each for each in rows if is_reference(each))]
    order.sort(key=lambda each: -(rows[each].mean("test_probe") or (0.0,))[0])
    body = []
    for each in order:
        cells = [each, str(len(rows[each].scores))]
        for metric in ("test_knn", "test_probe"):
            mean, std = rows[each].mean(metric) or (math.nan, math.nan)
            claim = claims.get((each, metric))
            spread = f" ± {100 * std:.2f}" if len(rows[each].scores) > 1 else ""
            apart = (
                "–"
                if claim is None
                else "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * claim[end] for end in ("mean", "low", "high")))
            )
            cells += [f"{100 * mean:.2f}{spread}", apart]
        found = tried[rows[each].runs[0]].settings if each in described["arms"] else {}
        body.append([*cells, " ".join(f"{path.rpartition('.')[2]}={_number(found[path])}" for path in found)])
    apart = f"minus {against} (95 % interval)"
    return Table(["", "seeds", "k-NN", apart, "probe", apart, "found by its search"], body).markdown()


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=EXPERIMENTS, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a folder of images or Parquet files")
    parser.add_argument("--work", type=Path, default=Path("experiments-work"), help="sweeps, teachers, MLflow")
    given, options = parser.parse_known_args()
    given.work.mkdir(parents=True, exist_ok=True)
    data, link = given.data.resolve(), given.work / "cifar10"
    if not link.exists():
        link.symlink_to(data)
    for name in given.names:
        if name in kept():
            print(f"{name}: there already", flush=True)
            continue
        began = time.monotonic()
        program, *words = command(name)
        subprocess.run([sys.executable, HERE.parent.resolve() / program, *words, *options], cwd=given.work, check=True)
        sweep = given.work / "runs" / sweep_name(name)
        keep(sweep, KEPT / name, [*COMMON, EXPERIMENT_FILE], {str(data): "cifar10"})
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(overview())


if __name__ == "__main__":
    main()

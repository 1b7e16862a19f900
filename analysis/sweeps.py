"""Makes the sweeps that the notebooks show: five methods on scikit-learn's digits, some minutes each on two cores.

    python analysis/sweeps.py [OUT] [--only METHOD ...]

A sweep that is whole in OUT (analysis/sweeps) is left alone. Each runs in a folder of its own that goes away; of
the sweep's folder all is kept but checkpoints, Ray's files and what is said of the machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raydistill.sweep.telling import ORIGIN, RESULTS, winner_of
from raydistill.training.checkpoint_files import WINNER

HERE = Path(__file__).parent
COMMON = ["--trials", "12", "--epochs", "8", "--seeds", "3"]
# What is not searched here leaves more trials for what the papers' figures show.
METHODS = {
    "dogo": ["method.objectives=[simclr]"],
    "seed": ["method.hidden_dim=512", "method.own_positive=true", "method.strategy=same"],
    "simreg": ["method.head_width=2.0", "method.bn_relu=all_hidden"],
    "sdssl": [
        "method.framework=mocov3", "method.beta=1.0", "method.layers=all", "method.target_view=other",
        "method.tau=0.2", "method.alpha_step=0.5", "eval.encoders=all",
    ],
    "sssd": ["method.bottleneck=conference", "method.tau=3.0", "eval.encoders=all"],
}  # fmt: skip
KEPT = ("journal.jsonl", "sweep.yaml", "budget.json", "table.md", "winner.yaml", "trials/*/scores.json")


def command(method: str) -> list[str]:
    """What one would type in an empty folder."""
    fixed = [word for setting in METHODS[method] for word in ("--set", setting)]
    tracked = ["--storage", "runs", "--tracking-uri", "sqlite:///mlflow.db", "--artifacts", "artifacts"]
    return ["sweep.py", "--method", method, "--name", method, *COMMON, *fixed, *tracked]


def keep(sweep: Path, target: Path) -> None:
    """Copy what a sweep is told from; the results come last, since they say that it is whole."""
    shutil.rmtree(target, ignore_errors=True)
    for file in (file for pattern in KEPT for file in sorted(sweep.glob(pattern))):
        copy = target / file.relative_to(sweep)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    origin = json.loads((sweep / ORIGIN).read_text())
    origin["environment"].pop("system", None)
    (target / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n")
    (target / WINNER).write_text(winner_of(sweep) + "\n")
    shutil.copyfile(sweep / RESULTS, target / RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=HERE / "sweeps")
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS), metavar="METHOD")
    given = parser.parse_args()
    for method in given.only:
        target = given.out.absolute() / method
        if (target / RESULTS).exists():
            print(f"{method}: there already", flush=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"sweep-{method}-") as folder:
            program, *words = command(method)
            subprocess.run([sys.executable, HERE.parent / program, *words], cwd=folder, check=True)
            keep(Path(folder) / "runs" / method, target)
        print(f"{method}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

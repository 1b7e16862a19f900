"""Makes the sweeps that the notebooks show, on scikit-learn's digits, some minutes each on two cores.

    python analysis/sweeps.py [OUT] [--only NAME ...]

One of each method tries what its paper's figures vary (analysis/spaces), every trial to its end: means over trials that
early stopping let live would flatter what it weeded out. `search` is what one would run to find settings: Optuna and
ASHA in the space that ships with DoGo.

A sweep that is whole in OUT (analysis/sweeps) is left alone. Each runs in a folder of its own that goes away; of the
sweep's folder all is kept but checkpoints, Ray's files and the name of the system.
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

from raydistill.records.layout import ORIGIN_FILE, RESULTS_FILE
from raydistill.training.checkpoint_files import WINNER, winner_of

HERE = Path(__file__).parent
COMMON = [
    "--threads",
    "1",
    "--epochs",
    "8",
    "--seeds",
    "3",
    "--storage",
    "runs",
    "--tracking-uri",
    "sqlite:///mlflow.db",
]
ALL = ["--set", "eval.encoders=all"]
SWEEPS = {"dogo": ALL, "seed": [], "simreg": [], "sdssl": ALL, "sssd": ALL, "search": ["--trials", "24"]}
KEPT = ("journal.jsonl", "sweep.yaml", "budget.json", "images.txt", "table.md", "winner.yaml", "trials/*/scores.json")


def command(name: str) -> list[str]:
    """What one would type in a folder that holds `spaces`."""
    space = [] if name == "search" else ["--search-space", f"spaces/{name}.yaml"]
    return ["sweep.py", "--method", method(name), "--name", name, *space, *COMMON, *SWEEPS[name]]


def method(name: str) -> str:
    return "dogo" if name == "search" else name


def keep(sweep: Path, target: Path) -> None:
    """Copy what a sweep is told from; the results come last, since they say that it is whole."""
    shutil.rmtree(target, ignore_errors=True)
    for file in (file for pattern in KEPT for file in sorted(sweep.glob(pattern))):
        copy = target / file.relative_to(sweep)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    origin = json.loads((sweep / ORIGIN_FILE).read_text())
    origin["environment"].pop("system", None)
    for place in ("storage", "artifacts"):
        origin.pop(place, None)
    (target / ORIGIN_FILE).write_text(json.dumps(origin, indent=1) + "\n")
    winner = winner_of(sweep)
    assert winner is not None, "the sweep has not ended"
    (target / WINNER).write_text(f"{winner.name}\n")
    shutil.copyfile(sweep / RESULTS_FILE, target / RESULTS_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=HERE / "sweeps")
    parser.add_argument("--only", nargs="*", choices=SWEEPS, default=list(SWEEPS), metavar="NAME")
    given = parser.parse_args()
    for name in given.only:
        target = given.out.absolute() / name
        if (target / RESULTS_FILE).exists():
            print(f"{name}: there already", flush=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"sweep-{name}-") as folder:
            shutil.copytree(HERE / "spaces", Path(folder) / "spaces")
            program, *words = command(name)
            subprocess.run([sys.executable, HERE.parent / program, *words], cwd=folder, check=True)
            keep(Path(folder) / "runs" / name, target)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

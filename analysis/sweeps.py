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
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kept import COMMON, keep

from raydistill.records.layout import RESULTS_FILE
from raydistill.training.checkpoint_files import WINNER, winner_of

HERE = Path(__file__).parent
OPTIONS = [
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


def command(name: str) -> list[str]:
    """What one would type in a folder that holds `spaces`."""
    space = [] if name == "search" else ["--search-space", f"spaces/{name}.yaml"]
    return ["sweep.py", "--method", method(name), "--name", name, *space, *OPTIONS, *SWEEPS[name]]


def method(name: str) -> str:
    return "dogo" if name == "search" else name


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
            sweep = Path(folder) / "runs" / name
            winner = winner_of(sweep)
            assert winner is not None, "the sweep has not ended"
            keep(sweep, target, [*COMMON, "winner.yaml"])
            (target / WINNER).write_text(f"{winner.name}\n")
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

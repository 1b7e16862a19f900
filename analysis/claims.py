"""Do the papers' claims hold at a size that two CPU cores can do? One line each, with seeds and spread.

All arms of a seed train side by side in one pack, on one stream of images, with one frozen teacher.

    python analysis/claims.py --data DIR_OF_CIFAR10 [--images 10000] [--epochs 6] [--seeds 3]

Writes analysis/claims.md and analysis/claims.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raydistill import config as configuration
from raydistill.artifacts.store import Store
from raydistill.config import Config
from raydistill.data.sources import load_dataset
from raydistill.evaluation.final import score
from raydistill.evaluation.online import evaluate
from raydistill.planning.prepare import ensure_teachers
from raydistill.presets import load_preset
from raydistill.training.messages import EpochResult, JoinRequest
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

HERE = Path(__file__).parent
METRICS = ("test_knn", "test_probe")


@dataclass(frozen=True)
class Arm:
    """One configuration: a method's default preset and what this arm changes."""

    method: str
    changes: dict[str, Any]


ARMS = {
    "simclr": Arm("simclr", {}),
    "seed": Arm("seed", {}),
    "simreg-4-layers": Arm("simreg", {"method.head_depth": 4}),
    "simreg-linear": Arm("simreg", {"method.head_depth": 1}),
    "dogo-lambda-100": Arm("dogo", {"method.lambda_kd": 100.0}),
    "dogo-lambda-1": Arm("dogo", {"method.lambda_kd": 1.0}),
    "sssd-kmeans": Arm("sssd", {"method.labels": "kmeans"}),
    "sssd-random": Arm("sssd", {"method.labels": "random"}),
    "sdssl-annealed": Arm("sdssl", {"method.alpha_schedule": "cosine"}),
    "sdssl-constant": Arm("sdssl", {"method.alpha_schedule": "constant"}),
}
CLAIMS = [
    ("SEED beats its student trained alone", "seed", "simclr"),
    ("a 4-layer SimReg head beats a linear one", "simreg-4-layers", "simreg-linear"),
    ("DoGo at lambda 100 beats lambda 1", "dogo-lambda-100", "dogo-lambda-1"),
    ("DoGo at lambda 100 beats SimCLR alone", "dogo-lambda-100", "simclr"),
    ("SSSD on clusters beats random labels", "sssd-kmeans", "sssd-random"),
    ("annealed alpha beats constant alpha in SDSSL", "sdssl-annealed", "sdssl-constant"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as `sweep.py --data` takes it")
    parser.add_argument("--images", type=int, default=10_000, help="training images; as many to validate and to test")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=None, help="of every arm [its preset's]")
    parser.add_argument("--work", type=Path, default=Path("runs/claims"), help="checkpoints, to go on after a stop")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of claims.md and claims.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    store = Store(arguments.artifacts.absolute())
    results: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in range(arguments.seeds):
        configs = {name: configured(arm, arguments, seed) for name, arm in ARMS.items()}
        work = arguments.work / "teachers"
        specs = {
            name: ensure_teachers(TrialSpec(config), store, work, evaluate=evaluate, on_epoch=tell("teacher"))
            for name, config in configs.items()
        }
        train_side_by_side(specs, store, arguments.work / f"seed-{seed}", seed)
        for name, config in configs.items():
            directory = arguments.work / f"seed-{seed}" / name
            results[name].append(score(config, str(directory), threads=torch.get_num_threads()))
    minutes = (time.perf_counter() - started) / 60
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "claims.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(results, arguments, minutes)
    (arguments.out / "claims.md").write_text(text)
    print(text)


def configured(arm: Arm, arguments: argparse.Namespace, seed: int) -> Config:
    """The arm's complete configuration for one seed: weights, order and augmentations follow it."""
    source = Path(arguments.data)
    settings: dict[str, Any] = {
        "method.name": arm.method,
        "data.source": str(source.resolve()) if source.exists() else arguments.data,
        "data.limit": arguments.images,
        "data.stream_seed": seed,
        "train.seed": seed,
        "train.epochs": arguments.epochs,
        "teacher.epochs": arguments.teacher_epochs,
        "eval.every": arguments.epochs,
    }
    if arguments.lr is not None:
        settings["train.lr"] = arguments.lr
    return configuration.load(configuration.assign(load_preset(arm.method, "default"), settings | arm.changes))


def train_side_by_side(specs: dict[str, TrialSpec], store: Store, work: Path, seed: int) -> None:
    """One pack for all arms; resumes from their checkpoints. Raises SystemExit if an arm fails."""
    data = next(iter(specs.values())).data
    if any(spec.data != data for spec in specs.values()):
        raise SystemExit("the arms' presets disagree about the data; they could not share a stream")
    pack = Pack(load_dataset(data), data, evaluate=evaluate, store=store)
    for name, spec in specs.items():
        failed = pack.add(JoinRequest(name, spec, str(work / name)))
        if failed is not None and failed.error:
            raise SystemExit(f"{name}: {failed.error}")
    while pack.learners:
        for done in pack.run_epoch():
            tell(f"seed {seed} {done.key}")(done)
            if done.error:
                raise SystemExit(f"{done.key}: {done.error}")


def tell(what: str):
    """Print an epoch's loss and, at the end, its score."""

    def on_epoch(done: EpochResult) -> None:
        scores = "  ".join(f"{k} {v:.4f}" for k, v in done.metrics.items() if k in ("loss", "val_knn", "step_seconds"))
        print(f"{what} epoch {done.epoch}  {scores}", flush=True)

    return on_epoch


def report(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace, minutes: float) -> str:
    """The table of arms and one line per claim, as Markdown."""
    lines = [
        "# Do the papers' claims hold here?",
        "",
        f"`python analysis/claims.py --data cifar10 --images {arguments.images} --epochs {arguments.epochs} "
        f"--teacher-epochs {arguments.teacher_epochs} --seeds {arguments.seeds}`: {minutes:.0f} minutes on "
        f"{torch.get_num_threads()} CPU thread(s).",
        "Every arm has its method's `default` preset (students resnet10_w16 or vit_w64_d4, teacher resnet18_w32 by",
        "SimCLR) and equally many steps. Accuracy in percent on the test split, mean ± standard deviation over seeds.",
        "",
        "| arm | changes | test k-NN | test probe |",
        "|---|---|---|---|",
    ]
    for name, scores in results.items():
        changes = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in ARMS[name].changes.items()) or "–"
        lines.append(f"| {name} | {changes} | {' | '.join(cell([s[m] for s in scores]) for m in METRICS)} |")
    lines += ["", "| claim | by k-NN | by probe | |", "|---|---|---|---|"]
    for claim, better, worse in CLAIMS:
        pairs = [[b[m] - w[m] for b, w in zip(results[better], results[worse], strict=True)] for m in METRICS]
        lines.append(
            f"| {claim} | {' | '.join(cell(gaps, sign='+') for gaps in pairs)} | {' / '.join(map(verdict, pairs))} |"
        )
    lines += [
        "",
        "The differences are paired by seed. *yes*: every seed agrees and the mean exceeds twice its standard error;",
        "*no*: the same, against the claim; *undecided*: neither.",
        "",
    ]
    return "\n".join(lines)


def cell(values: list[float], sign: str = "") -> str:
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):{sign}.2f}{spread}"


def verdict(gaps: list[float]) -> str:
    """Whether paired differences speak for a claim (yes), against it (no), or neither."""
    mean = statistics.fmean(gaps)
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("inf")
    if abs(mean) <= 2 * error or len({gap > 0 for gap in gaps}) > 1:
        return "undecided"
    return "yes" if mean > 0 else "no"


if __name__ == "__main__":
    main()

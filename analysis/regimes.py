"""Are networks trained where methods can work? The figures that the presets rest on, measured again.

Each row compares what version 0.1 did with what the presets do now, everything else equal. An arm that is known is left
alone, so the script may be stopped at any moment and go on later.

    python analysis/regimes.py [--data DIR_OF_CIFAR10] [--only ROW ...] [--seeds 2]

Without --data, the rows of CIFAR-10 are left out. Writes analysis/regimes.json and analysis/regimes.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import raydistill
from raydistill.evaluation.references import RawPixels
from raydistill.table import Table

HERE = Path(__file__).parent
BEFORE = {
    "data.kind": "photographs",
    "method.stem": "auto",
    "method.zero_init_residual": None,
}
DIGITS = {"data.source": "digits"}
MANY_STEPS = {"data.limit": 10_000, "train.epochs": 6, "eval.every": 6}  # 468 steps of 128 images
TERMS = ("ssl_1", "kd_1")
Scores = dict[str, float]
Arms = dict[str, Callable[[], list[Scores]]]
"""How to measure each arm of a row: the scores of its seeds."""
Row = dict[str, list[Scores]]


def trained(method: str, settings: dict[str, Any], seed: int) -> Scores:
    """Train one run, and score it on validation and test; its last training metrics are in the result, too."""
    chosen = {"train.seed": seed, "data.stream_seed": seed, **settings}
    config = raydistill.load_config(method, preset=settings.get("preset", "default"), set=without(chosen, "preset"))
    with tempfile.TemporaryDirectory() as folder:
        result = raydistill.train(config, f"{folder}/run", artifacts=f"{folder}/artifacts")
        scores = raydistill.evaluate(f"{folder}/run")
    epochs = {
        f"{name} of epoch {i}": v for i, m in enumerate(result.history, 1) for name, v in m.items() if name in TERMS
    }
    return {**epochs, **scores}


def without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def pixels(settings: dict[str, Any]) -> Arms:
    """The images themselves."""
    return {"raw pixels": lambda: [raydistill.evaluate(RawPixels(), set=settings)]}


def untrained(method: str, settings: dict[str, Any], seeds: int) -> Arms:
    """Students at their first step: their learning rate is too small to change anything."""
    still = {**settings, "train.epochs": 1, "train.lr": 1e-30, "train.warmup_epochs": 0}
    return arms(method, seeds, **{"untrained student": still})


def arms(method: str, seeds: int, **settings: dict[str, Any]) -> Arms:
    """One method under several settings, each with every seed."""

    def measure(chosen: dict[str, Any]) -> list[Scores]:
        return [trained(method, chosen, seed) for seed in range(seeds)]

    return {name: functools.partial(measure, chosen) for name, chosen in settings.items()}


def digits(seeds: int) -> Arms:
    """k-NN on the digits: a network was worse than no network, and is not far below it now."""
    return {
        **pixels(DIGITS),
        **untrained("simclr", {}, seeds),
        **arms("simclr", seeds, **{"SimCLR, version 0.1": BEFORE, "SimCLR": {}}),
        **arms("dogo", seeds, **{"DoGo": {}}),
    }


def crops(seeds: int) -> Arms:
    """SimCLR on the digits by the kind of images that its augmentation is made for."""
    kinds = {kind: {"data.kind": kind} for kind in ("photographs", "characters")}
    return {**pixels(DIGITS), **arms("simclr", seeds, **kinds)}


def momentum(seeds: int) -> Arms:
    """SDSSL on the digits, which scores its momentum network: with the momentum as published, and fitted to the run."""
    steps = 80  # ten epochs of eight

    def measure(chosen: dict[str, Any]) -> list[Scores]:
        ema = raydistill.load_config("sdssl", set=chosen).method.ema()
        assert ema is not None
        left = {"initial weights left": ema.initial_share(steps)}
        return [trained("sdssl", chosen, seed) | left for seed in range(seeds)]

    settings = {"momentum as it is": {"method.momentum_window": None}, "momentum_window 0.1": {}}
    return {**pixels(DIGITS), **{name: functools.partial(measure, chosen) for name, chosen in settings.items()}}


def probe(seeds: int) -> Arms:
    """The linear probe of the same runs on the digits: by DoGo's code, and to convergence."""
    probes = {"100 epochs of Adam": {"eval.probe": "dogo"}, "to convergence": {}}
    return {**pixels(DIGITS), **arms("simclr", seeds, **probes)}


def baseline(seeds: int, data: dict[str, Any]) -> Arms:
    """The undistilled student on 10,000 images of CIFAR-10: as version 0.1 compared it, and with fair settings."""
    common = {**data, **MANY_STEPS}
    mild = {**common, **BEFORE, "method.recipe": "small"}
    return {
        **pixels({**data, "data.limit": 10_000}),
        **untrained("simclr", common, seeds),
        **arms(
            "simclr",
            seeds,
            **{
                "SimCLR, version 0.1": {**common, **BEFORE},
                "with mild augmentation": mild,
                "and temperature 0.2": {**mild, "method.tau_c": 0.2},
                "and without zero-initialised blocks": {**without(mild, *BEFORE), "method.tau_c": 0.2},
            },
        ),
    }


def lambdas(seeds: int, data: dict[str, Any]) -> Arms:
    """DoGo's contrastive loss by epoch on 10,000 images of CIFAR-10; chance is log(255) = 5.54."""
    common = {**data, **MANY_STEPS, "method.recipe": "small"}
    found = {"lambda 0": 0, "lambda 1": 1, "lambda 10": 10, "lambda 100": 100}
    settings = {name: {**common, "method.lambda_kd": value} for name, value in found.items()}
    settings["lambda 100, rising"] = {**common, "method.lambda_kd": 100, "method.lambda_schedule": "cosine"}
    return {**pixels({**data, "data.limit": 10_000}), **arms("dogo", seeds, **settings)}


def headroom(seeds: int, data: dict[str, Any]) -> Arms:
    """SEED on 4,000 images of CIFAR-10, four epochs: by how long its teacher was trained."""
    common = {**data, "data.limit": 4_000, "train.epochs": 4, "eval.every": 4, "method.recipe": "small"}
    return {
        **pixels({**data, "data.limit": 4_000}),
        **arms("simclr", seeds, **{"the student alone": common}),
        **arms(
            "seed",
            seeds,
            **{
                "teacher of 4 epochs": {**common, "teacher.epochs": 4},
                "teacher of 40 epochs": {**common, "teacher.epochs": 40},
            },
        ),
    }


def cpu(seeds: int, data: dict[str, Any]) -> Arms:
    """The undistilled student of the preset `cpu` on all of CIFAR-10."""
    return {
        **pixels(data),
        **untrained("simclr", {**data, "preset": "cpu"}, 1),
        **arms("simclr", 1 if seeds < 3 else seeds, **{"SimCLR, preset cpu": {**data, "preset": "cpu"}}),
    }


ON_DIGITS: dict[str, Callable[[int], Arms]] = {
    "digits": digits,
    "crops": crops,
    "momentum": momentum,
    "probe": probe,
}
ON_CIFAR: dict[str, Callable[[int, dict[str, Any]], Arms]] = {
    "baseline": baseline,
    "lambdas": lambdas,
    "headroom": headroom,
    "cpu": cpu,
}
SHOWN = ("test_knn", "test_probe", "ssl_1 of epoch 1", "ssl_1 of epoch 3", "ssl_1 of epoch 6", "initial weights left")


def report(results: dict[str, Row]) -> str:
    """The rows as Markdown tables: scores in percent, mean ± standard deviation over seeds; losses as they are."""
    lines = [
        "# Where methods can work",
        "",
        "By `python analysis/regimes.py --data DIR_OF_CIFAR10`. The student is that of the preset `default`, in",
        "the row `cpu` that of `cpu`. Scores in percent, ± standard deviation over seeds. `ssl_1` is the contrastive",
        "loss of DoGo's student.",
        "",
    ]
    for name, doc in {k: f.__doc__ or "" for k, f in {**ON_DIGITS, **ON_CIFAR}.items()}.items():
        lines += [f"## {name}", "", doc.splitlines()[0], ""]
        row = results.get(name)
        if row is None:
            lines += ["Not measured yet.", ""]
            continue
        columns = [c for c in SHOWN if any(c in scores for found in row.values() for scores in found)]
        first = sorted(row.items(), key=lambda arm: arm[0] != "raw pixels")
        body = [
            [arm, str(len(found)), *(cell(c, [s[c] for s in found if c in s]) for c in columns)] for arm, found in first
        ]
        lines += [Table(["arm", "seeds", *columns], body).markdown(), ""]
    return "\n".join(lines)


def cell(column: str, values: list[float]) -> str:
    if not values:
        return "–"
    factor, digits = (1, 3) if column.startswith("ssl") else (100, 1)
    spread = f" ± {factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * statistics.fmean(values):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10, as `sweep.py --data` takes it")
    rows_of = ", ".join([*ON_DIGITS, *ON_CIFAR])
    parser.add_argument("--only", nargs="*", choices=[*ON_DIGITS, *ON_CIFAR], metavar="ROW", help=rows_of)
    parser.add_argument("--seeds", type=int, default=2, help="of every arm, but for cpu [2]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch [all cores]")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of regimes.json and regimes.md")
    given = parser.parse_args()
    if given.only and not given.data and set(given.only) & set(ON_CIFAR):
        parser.error(f"--data is missing: {', '.join(sorted(set(given.only) & set(ON_CIFAR)))} need CIFAR-10")
    torch.set_num_threads(given.threads)
    file = given.out / "regimes.json"
    results: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}
    data = {"data.source": given.data and str(Path(given.data).resolve())}
    rows = {name: row(given.seeds) for name, row in ON_DIGITS.items()}
    if given.data:
        rows |= {name: row(given.seeds, data) for name, row in ON_CIFAR.items()}
    for name, arm, measure in [(name, *arm) for name, row in rows.items() for arm in row.items()]:
        if arm in results.get(name, {}) or (given.only and name not in given.only):
            continue
        results.setdefault(name, {})[arm] = measure()
        given.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "regimes.md").write_text(report(results))
        print(f"{name}, {arm}: done", flush=True)


if __name__ == "__main__":
    main()

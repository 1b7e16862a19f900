"""Do the papers' claims hold at a size that two CPU cores can do? Sweeps of this software answer, over days if need be.

    python analysis/claims.py --data DIR_OF_CIFAR10 [--only GROUP ...] [--seeds 3] [--most-seeds 5]
    python analysis/claims.py --list

Every group of arms is one sweep for each seed, seed 0 of all groups first. A claim that is undecided after --seeds
seeds gets more of them, up to --most-seeds. It may be stopped at any moment: the same command goes on, leaves alone
what is done, and resumes the sweep that was interrupted.

Writes claims.md and claims.json anew after every sweep, beside this file or into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from claim_arms import ARMS, CLAIMS, GROUPS, Scale, arms_of, is_arm, sweep_options, unfair
from claim_report import REFERENCES, Scores, as_json, changes, report, undecided_groups

import raydistill

HERE = Path(__file__).parent
Record = dict[str, Any]
"""Scores of the arms of one sweep and of its references, and the seconds that it took."""


class Claims:
    """The sweeps of all groups and seeds in one folder, and the report of those that are done.

    Args:
        work: folder of sweeps, teachers, MLflow's file and scores.
        scale: sizes; a folder keeps to one scale.
        run: trains and scores one group with one seed; `run_group`, unless a test has its own.
        threads: of torch, for each trial; None: as many as there are.
    """

    def __init__(
        self, work: Path, scale: Scale, run: Callable[[Claims, str, int], Record], threads: int | None = None
    ) -> None:
        self.work, self.scale, self.run, self.threads = work.absolute(), scale, run, threads
        known = self.work / "scale.json"
        if known.exists() and json.loads(known.read_text()) != asdict(scale):
            raise SystemExit(f"{work} has sweeps of another scale: {known.read_text().strip()}; give another --work")
        write(known, asdict(scale))

    def kept(self, group: str, seed: int) -> Path:
        """The file with the scores of a sweep that is done."""
        return self.work / "scores" / f"{group}-seed{seed}.json"

    def go_on(self, groups: Iterable[str], seeds: int, most_seeds: int, write_report: Callable[[], None]) -> None:
        """Run what is missing.

        Args:
            groups: names.
            seeds: of every group.
            most_seeds: of groups with claims that `seeds` seeds leave undecided.
            write_report: called after every sweep.
        """
        chosen = list(groups)
        for seed in range(max(seeds, most_seeds)):
            due = chosen if seed < seeds else [name for name in undecided_groups(self.scores(seeds)) if name in chosen]
            for group in due:
                path = self.kept(group, seed)
                if not path.exists():
                    print(f"{group}, seed {seed}", flush=True)
                    try:
                        write(path, self.run(self, group, seed))
                    except raydistill.RaydistillError as error:  # the next groups do not depend on it
                        print(f"{group}, seed {seed}: {error}", flush=True)
                    write_report()

    def records(self) -> dict[tuple[str, int], Record]:
        """What is done, by group and seed."""
        found = {}
        for group in GROUPS:
            for path in sorted((self.work / "scores").glob(f"{group}-seed*.json")):
                found[group, int(path.stem.rpartition("-seed")[2])] = json.loads(path.read_text())
        return found

    def scores(self, seeds: int | None = None) -> Scores:
        """The scores of every arm and reference by seed; of the first `seeds` seeds, where that is given.

        The first ones alone decide who gets more: sampling until a verdict is clear would make too many clear.
        """
        found: Scores = {}
        for (group, seed), record in self.records().items():
            if seeds is not None and seed >= seeds:
                continue
            for name, scores in record["arms"].items():
                found.setdefault(name, {})[seed] = scores
            for name, scores in record["references"].items():
                found.setdefault(f"{group}/{name}", {})[seed] = scores
        return found

    def seconds(self) -> float:
        """What the sweeps that are done took."""
        return sum(record["seconds"] for record in self.records().values())


def run_group(claims: Claims, group: str, seed: int) -> Record:
    """Run the sweep of a group with one seed, or go on with it, and score its arms on the test split.

    Args:
        claims: where, and how large.
        group: its name.
        seed: of all arms.

    Raises:
        SystemExit: two arms of a claim differ in what they should share.
    """
    options = sweep_options(group, claims.scale, seed)
    storage = claims.work / "sweeps"
    folder = storage / options["name"]
    begun = (folder / "sweep.yaml").exists()
    if not begun or raydistill.load_sweep(folder).winner is None:
        raydistill.run_sweep(
            GROUPS[group].method,
            resume=begun,
            storage=storage,
            artifacts=claims.work / "artifacts",
            tracking_uri=f"sqlite:///{claims.work / 'mlflow.db'}",
            threads=claims.threads,
            **options,
        )
    sweep = raydistill.load_sweep(folder)
    trials, base = sweep.trials(), sweep.identity["base"]
    configs = {
        key: raydistill.load_config(folder / "trials" / key / "config.yaml").model_dump(mode="json")
        for key in trials.index[(trials.role != "teacher") & (trials.outcome == "finished")]
    }
    found = {name: key for name in arms_of(group) for key in configs if is_arm(configs[key], ARMS[name], base)}
    for name in set(arms_of(group)) - set(found):
        print(f"{options['name']} has no finished trial of {name}; see {folder / 'table.md'}", flush=True)
    check_fairness({name: configs[key] for name, key in found.items()})
    board = sweep.leaderboard().drop_duplicates("configuration").set_index("configuration")
    rows = {name: numbers(row) for name, row in board.to_dict("index").items()}
    arms = {}
    for name, key in found.items():
        path = claims.work / "scores" / options["name"] / f"{name}.json"
        if not path.exists():
            latest = numbers(trials.loc[key].to_dict())
            of_winner = rows[sweep.method] if key == sweep.winner else {}
            known = {metric: latest[metric] for metric in ("val_mse",) if metric in latest}
            write(path, of_winner | known | score(folder / "trials" / key, encoders_of(name)))
        arms[name] = json.loads(path.read_text())
    references = {name: row for name, row in rows.items() if name.startswith(REFERENCES)}
    return {"arms": arms, "references": references, "trials": found, "seconds": seconds_of(folder)}


def seconds_of(sweep: Path) -> float:
    """What a sweep took, with the time before an interruption."""
    return float(json.loads((sweep / "budget.json").read_text())["seconds"])


def check_fairness(configs: dict[str, dict[str, Any]]) -> None:
    """Compare the configurations that were trained, by name of the arm.

    Raises:
        SystemExit: two arms of a claim differ in what they should share.
    """
    for claim in CLAIMS:
        if set(claim.arms) <= set(configs) and (wrong := unfair(claim, *(configs[name] for name in claim.arms))):
            raise SystemExit(f"{claim.text}: {' and '.join(claim.arms)} differ in {', '.join(wrong)}")


def encoders_of(arm: str) -> list[str]:
    """The encoders of an arm, besides its student, that a claim looks at: `block_1`."""
    metrics = {
        metric
        for claim in CLAIMS
        for pair in claim.metrics
        for name, metric in zip(claim.arms, pair, strict=True)
        if name == arm
    }
    return sorted({metric.partition("knn_")[2] for metric in metrics} - {""})


def score(trial: Path, encoders: list[str]) -> dict[str, float]:
    """Score a trial's student, and others of its encoders under their names, as a sweep scores its winner.

    Args:
        trial: its folder.
        encoders: `block_1`, ...
    """
    scores = raydistill.evaluate(trial)
    config = raydistill.load_config(trial / "config.yaml")
    values = config.model_dump(mode="json")
    settings = {f"{section}.{key}": value for section in ("data", "eval") for key, value in values[section].items()}
    settings["train.seed"] = config.train.seed
    for name in encoders:
        found = raydistill.evaluate(raydistill.load_encoder(trial, encoder=name), set=settings)
        scores |= {f"{metric}_{name}": value for metric, value in found.items()}
    return scores


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The scores in a row of a table."""
    return {
        name: float(value) for name, value in row.items() if str(name).startswith(("val_", "test_")) and value == value
    }


def write(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_suffix(".part")
    passing.write_text(json.dumps(values, indent=1) + "\n")
    passing.replace(path)


def listing(groups: Iterable[str], scale: Scale) -> str:
    """The arms of each group, their sweep, and how much is trained for one seed."""
    steps = scale.epochs * (scale.images // scale.batch_size)
    lines = [f"{scale}", "", f"A run is {steps} steps. One seed of everything, the teachers once for all seeds:"]
    for name in groups:
        options = sweep_options(name, scale, 0)
        arms = arms_of(name)
        # In a sweep, the baseline's own preset and its own augmentation have rows of their own.
        most = len(arms) + 2 * len(options["baseline"])
        lines += ["", f"{name}: {len(arms)} to {most} runs", f"  space {options['search_space']}"]
        lines += [f"  baselines {', '.join(options['baseline'])}"]
        lines += [f"  --set {path}={value}" for path, value in options["set"].items()]
        lines += [f"  arm {arm}: {changes(arm)}" for arm in arms]
    return "\n".join(lines)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as `sweep.py --data` takes it")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--seeds", type=int, default=3, help="of every group [3]")
    parser.add_argument("--most-seeds", type=int, default=5, help="of groups with undecided claims [5]")
    for field in fields(Scale)[1:]:
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=f"[{field.default}]"
        )
    parser.add_argument("--threads", type=int, help="of each training")
    parser.add_argument("--work", type=Path, default=Path("runs/claims"), help="sweeps, teachers and scores")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of claims.md and claims.json")
    parser.add_argument("--list", action="store_true", help="print the arms and their settings, and train nothing")
    given = parser.parse_args(words)
    if given.data is None and not given.list:
        parser.error("--data is missing: the folder of CIFAR-10, or what else `sweep.py --data` takes")
    return given


def main() -> None:
    given = arguments()
    source = given.data or ""
    named = str(Path(source).resolve()) if source and Path(source).exists() else source
    scale = Scale(named, *(getattr(given, field.name) for field in fields(Scale)[1:]))
    if given.list:
        print(listing(given.only, scale))
        return
    claims = Claims(given.work, scale, run_group, given.threads)
    words = [f"--{f.name.replace('_', '-')} {getattr(scale, f.name)}" for f in fields(Scale)[1:]]
    command = " ".join(["python analysis/claims.py --data", Path(source).name, *words])

    def write_report() -> None:
        scores, seconds = claims.scores(), claims.seconds()
        given.out.mkdir(parents=True, exist_ok=True)
        write(
            given.out / "claims.json",
            as_json(scores, scale, seconds) | {"scale": asdict(scale) | {"data": Path(source).name}},
        )
        (given.out / "claims.md").write_text(report(scores, scale, seconds, command))

    claims.go_on(given.only, given.seeds, given.most_seeds, write_report)
    write_report()
    print((given.out / "claims.md").read_text())


if __name__ == "__main__":
    sys.exit(main())

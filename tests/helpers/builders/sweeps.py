"""Made-up sweeps, as `raydistill.report.load` gives them, without a store; and the same in a store."""

import json
import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import yaml

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report import frames
from raydistill.report.load import SweepData
from raydistill.tracking.tracker import Tracker

BOTH = ["simclr", "simsiam"]
SPACE = {
    "train.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
    "method.tau_kd": {"distribution": "categorical", "values": [0.05, 0.1, 0.2, 0.5]},
    "method.objectives": {"distribution": "categorical", "values": [["simclr"], BOTH]},
    "method.lambda_simsiam": {
        "distribution": "log_uniform_values",
        "min": 0.1,
        "max": 10,
        "when": {"method.objectives": [BOTH]},
    },
    "train.clip_norm": {"distribution": "categorical", "values": [None, 1.0]},
    "train.momentum": {"distribution": "uniform", "min": 0.5, "max": 0.95},
    "train.optimizer": {"distribution": "constant", "value": "adam"},
}
EPOCHS = 9


@dataclass
class Trial:
    key: str
    params: dict
    epochs: list = field(default_factory=list)
    outcome: str = "finished"
    message: str = ""

    @property
    def role(self):
        return self.key.partition("-")[0] if "-" in self.key else "search"


def identity(metric="val_knn", goal="maximize", space=None, epochs=EPOCHS, **more):
    return {
        "base": {
            "method": {"name": "dogo"},
            "data": {
                "source": "digits",
                "image_size": None,
                "batch_size": 128,
                "validation_fraction": 0.2,
                "split_seed": 0,
                "limit": None,
                "on_bad_image": "skip",
            },
            "train": {"epochs": epochs, "warmup_epochs": 0},
        },
        "space": {
            "method": "bayes",
            "metric": {"name": metric, "goal": goal},
            "early_terminate": {"type": "asha", "min_iter": 2, "eta": 3},
            "parameters": SPACE if space is None else space,
        },
        "trials": 8,
        "seeds": 3,
        **more,
    }


def params(rng, **fixed):
    return {
        "train.lr": math.exp(rng.uniform(math.log(1e-4), math.log(1e-1))),
        "method.tau_kd": rng.choice([0.05, 0.1, 0.2, 0.5]),
        "method.objectives": rng.choice([["simclr"], BOTH]),
        "method.lambda_simsiam": math.exp(rng.uniform(math.log(0.1), math.log(10))),
        "train.clip_norm": rng.choice([None, 1.0]),
        "train.momentum": rng.uniform(0.5, 0.95),
        "train.optimizer": "adam",
        "train.epochs": EPOCHS,
        "data.batch_size": 128,
        **fixed,
    }


def epoch(rng, settings, number, of=EPOCHS):
    """Metrics of one epoch; the learning rate alone matters."""
    best = 0.8 - 0.08 * (math.log10(settings["train.lr"]) + 2) ** 2
    score = best * (1 - math.exp(-4 * number / of)) + rng.gauss(0, 0.004)
    learners = rng.choice([1, 2, 3, 4])
    return {
        "val_knn": score,
        "loss": 2 / number,
        "pack_learners": float(learners),
        "step_seconds": 0.05 + 0.004 * learners,
        "images_per_second": 1000 / (1 + 0.6 * learners),
        "shared_seconds": 0.02,
        "epoch_seconds": 2.0,
        "workers": 1.0,
        "bad_images": 0.0,
    }


def search(count, seed=0, epochs=EPOCHS):
    """Trials of a search: a third stops early, one fails."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        settings = params(rng)
        curve = [epoch(rng, settings, number, epochs) for number in range(1, epochs + 1)]
        stops = math.log10(settings["train.lr"]) < -3 and i % 4
        trial = Trial(f"t{i:04d}", settings, curve[:3] if stops else curve, "stopped_early" if stops else "finished")
        found.append(trial)
    if count > 5:
        found[5].outcome, found[5].message, found[5].epochs = "failed", "CUDA out of memory", []
    return found


def finals(best, seed=0, seeds=3):
    """The winner and its baseline with each seed; of the winner the first one is the search's own."""
    rng = random.Random(seed)
    found = []
    for arm, offset in (("dogo", 0.0), ("simclr-same-settings", -0.03), ("simclr-default", -0.05)):
        for i in range(seeds):
            last = {
                "val_knn": 0.8 + offset + rng.gauss(0, 0.01),
                "test_knn": 0.78 + offset + rng.gauss(0, 0.01),
                "test_probe": 0.75 + offset + rng.gauss(0, 0.01),
                "loss": 1.0,
            }
            if arm != "dogo" or i:
                settings = best if arm == "dogo" else {k: v for k, v in best.items() if not k.startswith("method.")}
                found.append(Trial(f"final-{arm}-seed{i}", settings, [last]))
            else:
                found.append((arm, last))
    rows = {}
    for each in found:
        arm, last = each if isinstance(each, tuple) else (each.key[6:].rpartition("-")[0], each.epochs[0])
        rows.setdefault(arm, []).append(last)
    settings = {path: best[path] for path in ("train.lr", "method.tau_kd") if path in best}
    table = [LeaderboardEntry(arm, settings if arm == "dogo" else {}, EPOCHS, scores) for arm, scores in rows.items()]
    return table, [each for each in found if isinstance(each, Trial)]


def whole(count=12, seed=0, seeds=3, **fields):
    """A sweep that came to its end."""
    trials = search(count, seed)
    ranked = made_up(trials).ranked()
    winner = next(trial for trial in trials if trial.key == ranked[0])
    rows, more = finals(winner.params, seed, seeds)
    tags = {"raydistill.winner": winner.key, "raydistill.outcome": "finished"} | fields.pop("tags", {})
    return made_up([*trials, *more], rows=rows, tags=tags, **fields)


def made_up(trials, rows=(), tags=None, **asked):
    """A sweep in memory; `asked` are the arguments of `identity`."""
    trials = sorted(trials, key=lambda trial: trial.key)
    keys = pd.Index([trial.key for trial in trials], name="trial", dtype=object)
    histories = {}
    for trial in trials:
        for number, metrics in enumerate(trial.epochs, 1):
            for name, value in metrics.items():
                histories.setdefault((trial.key, name), []).append(SimpleNamespace(step=number, value=value))
    frame = pd.DataFrame(
        [
            {
                "role": t.role,
                "outcome": t.outcome,
                "message": t.message,
                "copies": "",
                "started": pd.Timestamp(0),
                "seconds": 3.0 * len(t.epochs),
                "run_id": t.key,
            }
            for t in trials
        ],
        index=keys,
        columns=["role", "outcome", "message", "copies", "started", "seconds", "run_id"],
    )
    last = [{name: value for metrics in t.epochs for name, value in metrics.items()} for t in trials]
    told = identity(**asked)
    settings = pd.DataFrame([t.params for t in trials], keys, dtype=object)
    return SweepData(
        name="dogo-1",
        method="dogo",
        uri="sqlite:///mlflow.db",
        experiment_id="1",
        run_id="0",
        metric=told["space"]["metric"]["name"],
        goal=told["space"]["metric"]["goal"],
        tags={"raydistill.outcome": "running"} | (tags or {}),
        identity=told,
        rows=list(rows),
        trials=frame,
        settings=frames.searched(settings, told["space"]["parameters"]),
        scores=pd.DataFrame(last, index=keys, dtype=float),
        params=settings,
        client=SimpleNamespace(get_metric_history=lambda run, name: histories.get((run, name), [])),
        started=pd.Timestamp("2026-01-02 03:04"),
        seconds=3725.0,
    )


def store(uri, folder, sweep, outcome="finished"):
    """Write a made-up sweep into an MLflow store."""
    kept = {name: value for name, value in sweep.tags.items() if name != "raydistill.outcome"}
    tags = {"raydistill.method": sweep.method} | kept
    tracker = Tracker(uri, "raydistill", sweep.name, params={}, tags=tags, system_metrics=False)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep.identity, sort_keys=False))
    tracker.artifact(None, folder / "sweep.yaml")
    if sweep.rows:
        (folder / "results.json").write_text(json.dumps([vars(row) for row in sweep.rows]))
        tracker.artifact(None, folder / "results.json")
    for key in sweep.trials.index:
        tracker.start_trial(key, sweep.params.loc[key].dropna().to_dict(), {"raydistill.role": sweep.trials.role[key]})
        curves = pd.DataFrame({name: sweep.curves(name, [key])[key] for name in sweep.scores})
        for number, metrics in curves.iterrows():
            tracker.log(key, number, metrics.dropna().to_dict())
        if sweep.trials.outcome[key] != "running":
            tracker.end_trial(key, sweep.trials.outcome[key], sweep.trials.message[key])
    assert tracker.flush()
    if outcome != "running":
        assert tracker.close(outcome) == 0

"""The folder of a sweep in which much happens, for tests of what is told about it."""

import json

import yaml

from raydistill.config import dump, load
from raydistill.records.budget import Budget, Limits

BASE = dump(load({"method": "simclr", "train": {"epochs": 2}}))


def sweep_events():
    """Of a sweep in which a trial copies another, one fails, one is stopped early and one never ends."""
    slow = BASE | {"train": BASE["train"] | {"lr": 0.001}}
    yield "trial", "t0000", {"settings": {"train.lr": 0.1}, "config": BASE}
    yield "trial", "t0001", {"settings": {"train.lr": 0.2}, "config": BASE}
    yield "result", "t0000", {"epoch": 1, "metrics": {"val_knn": 0.4, "loss": 2.0}}
    yield "result", "t0001", {"epoch": 1, "metrics": {"val_knn": 0.3, "loss": 3.0}}
    yield "copy", "t0001", {"epoch": 1, "donor": "t0000", "settings": {"train.lr": 0.001}, "config": slow}
    yield "end", "t0001", {"outcome": "stopped_early", "message": ""}
    yield "result", "t0000", {"epoch": 2, "metrics": {"val_knn": 0.5, "loss": 1.0}}
    yield "end", "t0000", {"outcome": "finished", "message": ""}
    yield "trial", "t0002", {"settings": {"train.lr": 9.0}, "config": BASE}
    yield "end", "t0002", {"outcome": "failed", "message": "loss = nan"}
    yield "trial", "t0003", {"settings": {"train.lr": 0.5}, "config": BASE}


def write_sweep(folder, concluded=True):
    folder.mkdir(parents=True)
    lines = [
        {"event": kind, "key": key, **more, "time": 1000.0 + i} for i, (kind, key, more) in enumerate(sweep_events())
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    identity = {"base": BASE, "preset": "default", "space": {}, "trials": 4, "seeds": 1}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(identity))
    if concluded:
        rows = [
            {"name": name, "settings": {}, "epochs": 2, "scores": [{"val_knn": score, "test_knn": score - 0.1}]}
            for name, score in (("simclr", 0.5), ("byol-tuned", 0.25))
        ]
        (folder / "results.json").write_text(json.dumps(rows))
        (folder / "table.md").write_text("a table\n")
        (folder / "winner.yaml").write_text(yaml.safe_dump(BASE))
        (folder / "winner.txt").write_text("t0000\n")
        (folder / "origin.json").write_text(json.dumps({"command": "python sweep.py", "environment": {"ray": "2"}}))
        (folder / "budget.json").write_text(json.dumps(Budget(Limits()).to_dict() | {"seconds": 3600.0}))
        (folder / "trials" / "t0000").mkdir(parents=True)
        (folder / "trials" / "t0000" / "scores.json").write_text(json.dumps({"val_knn": 0.51, "test_knn": 0.4}))
    return folder

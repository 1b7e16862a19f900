"""Folders of small sweeps that came to their end, as `raydistill track` reads them, made without training."""

import json

import yaml

from helpers.rows import ROWS
from raydistill import config
from raydistill.records.journal import Journal
from raydistill.trial_spec import TrialSpec

IMAGES = {"train": 160, "val": 40, "test": 50, "digest": "0123456789abcdef"}


def trained(method, **settings):
    """A configuration of two epochs with a student `resnet10_w4`; `settings` by path, with `__` for the dot."""
    base = {"method": {"name": method} | ROWS[method], "data": {"batch_size": 40}, "train": {"epochs": 2}}
    paths = {path.replace("__", "."): value for path, value in settings.items()}
    return config.load(config.assign(base, paths))


def write_sweep(folder, method, probes, *, trials=1, images=IMAGES, baseline=(), tested=True, done=True, **settings):
    """Write a sweep whose winner has a final run for each of `probes`, scores of the linear probe; k-NN has 0.1 less.

    Args:
        folder: of the sweep.
        method: that it searches.
        probes: scores of the winner by seed; the first is the search's own run.
        trials: of the search, and of that of a baseline.
        images: what `sweep.yaml` says of the images.
        baseline: scores of SimCLR, which was searched; none: without one.
        tested: whether the scores are of test.
        done: whether the sweep came to its end.
        settings: of the winner, as for `trained`.
    """
    spec = TrialSpec(trained(method, **settings))
    simclr = TrialSpec(trained("simclr", **{k: v for k, v in settings.items() if not k.startswith("method__")}))
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.jsonl")

    def run(key, own, seed=0):
        shifted = {"train.seed": own.config.train.seed + seed, "data.stream_seed": own.config.data.stream_seed + seed}
        journal.propose(key, {}, own.assign(shifted))
        journal.result(key, 1, {"val_knn": 0.5, "loss": 1.0})
        journal.end(key, "finished")
        return key

    for number in range(trials):
        run(f"t{number:04d}", spec)
    split = "test" if tested else "val"
    rows = [_row(method, split, probes, ["t0000", *(run(f"final-{method}-seed{i}", spec, i) for i in _later(probes))])]
    if baseline:
        found = [run(f"baseline-simclr-t{number:04d}", simclr) for number in range(trials)]
        more = [run(f"final-simclr-searched-seed{i}", simclr, i) for i in _later(baseline)]
        rows.append(_row("simclr-searched", split, baseline, [found[0], *more]))
        same = [run(f"final-simclr-same-settings-seed{i}", simclr, i) for i in range(len(baseline))]
        rows.append(_row("simclr-same-settings", split, baseline, same))
        rows.append(_row("pixels", split, [0.4], []))
        rows.append(_row("untrained", split, [0.3 + i / 100 for i in range(len(probes))], []))
    journal.close()
    identity = {
        "base": config.dump(spec.config),
        "space": {},
        "trials": trials,
        "seeds": len(probes),
        **({"images": dict(images)} if images else {}),
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(identity, sort_keys=False))
    (folder / "origin.json").write_text(json.dumps({"id": folder.name, "image_size": 12}))
    if done:
        (folder / "table.md").write_text("a table\n")
        (folder / "winner.yaml").write_text(yaml.safe_dump(identity["base"]))
        (folder / "winner.txt").write_text("t0000\n")
        (folder / "results.json").write_text(json.dumps(rows))
    return folder


def _later(scores):
    return range(1, len(scores))


def _row(name, split, probes, runs):
    scores = [{f"{split}_probe": probe, f"{split}_knn": probe - 0.1} for probe in probes]
    return {"name": name, "settings": {}, "epochs": 2, "scores": scores, "runs": runs}

"""Trials and sweeps as they lie in folders, made without Ray: built, perhaps trained, and checkpointed."""

import json

import torch
import yaml

from helpers.requests import request
from raydistill import config, methods
from raydistill.data.sources import load_dataset
from raydistill.methods import MethodContext
from raydistill.records.journal import Journal
from raydistill.training.checkpoints import write_checkpoint
from raydistill.training.pack import Pack
from raydistill.training.teachers import plain_context
from raydistill.trial_spec import TrialSpec

TINY = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 8, "projection_dim": 8}
DATA = {"source": "digits", "limit": 40, "batch_size": 16, "image_size": 8}


def settings(method=TINY, epochs=1, teacher=(), **data):
    values = {"method": method, "data": {**DATA, **data}, "train": {"epochs": epochs}}
    return config.load(values | {"teacher": {"sources": list(teacher)}})


def trial(folder, method=TINY, *, epoch=1, epochs=1, offsets=(), given=None, teacher=(), **data):
    """A trial's folder with a checkpoint whose batch norms have seen images. Returns: its configuration."""
    wanted = settings(method, epochs, teacher, **data)
    size = wanted.data.image_size
    given = given or MethodContext(size, 40)
    network = methods.build(wanted.method, given, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        for encoder in network.encoders().values():
            encoder.train()(torch.randn(16, 3, size, size, generator=generator))
    state = {
        "given": plain_context(given),
        "method": network.state_dict(),
        "optimizer": {},
        "epoch": epoch,
        "offsets": [list(pair) for pair in offsets],
        "metrics": {"val_knn": 0.5, "loss": 1.0},
    }
    write_checkpoint(folder, epoch, state)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.dump(wanted)))
    return wanted


def journal(sweep, **outcomes):
    """A sweep's journal: its trials, and how each ended; None: it has not."""
    book = Journal(sweep / "journal.jsonl")
    for key, outcome in outcomes.items():
        book.propose(key, {}, TrialSpec(settings()))
        book.result(key, 1, {"val_knn": 0.5})
        if outcome:
            book.end(key, outcome)
    book.close()


def sweep(home, name="demo-1", winner="t0001", **outcomes):
    """A sweep whose trials, but failed ones, have checkpoints. Returns: its folder."""
    outcomes = outcomes or {"t0000": "stopped_early", "t0001": "finished"}
    folder = home / name
    for key, outcome in outcomes.items():
        if outcome != "failed":
            trial(folder / "trials" / key)
    journal(folder, **outcomes)
    if winner:
        (folder / "winner").symlink_to(f"trials/{winner}")
        scores = {"val_knn": 0.5, "test_knn": 0.25, "test_probe": 0.125}
        (folder / "trials" / winner / "scores.json").write_text(json.dumps(scores))
    return folder


def searched(plan, trials):
    """Store a sweep whose trials, by key, have finished with these settings and metrics, for others to learn from."""
    plan.store()
    book = Journal(plan.directory / "journal.jsonl")
    for key, (chosen, metrics) in trials.items():
        book.propose(key, chosen, TrialSpec(plan.resolve(chosen)))
        book.result(key, plan.epochs, metrics)
        book.end(key, "finished")
    book.close()


def checkpoint_bytes(base, folder):
    """Size of a checkpoint of `base`, trained for one epoch."""
    pack = Pack(load_dataset(base.data), base.data, evaluate=lambda *_: {})
    pack.add(request("one", base, str(folder)))
    pack.run_epoch()
    (file,) = folder.glob("*.safetensors")
    return file.stat().st_size

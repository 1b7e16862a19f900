"""Compare what learners have become."""

import hashlib
import json
import math

import torch
from safetensors.torch import load_file, save_file

from raydistill.training.checkpoints import latest_checkpoint


def weights(directory):
    """What training made of a learner: weights, optimizer and epoch of its newest checkpoint."""
    state = latest_checkpoint(directory)
    return {"method": state["method"], "optimizer": state["optimizer"], "epoch": state["epoch"]}


def same(a, b):
    """Whether two states agree, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isclose(a, b))


def as_of_0_1(state, folder):
    """A copy of a checkpoint in that version's form: everything but size and checksum in the header of the tensors."""
    tree = json.loads(state.with_suffix(".json").read_text())["tree"]
    path = folder / state.name
    save_file(load_file(state), path, {"format": "raydistill-1", "tree": json.dumps(tree)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"epoch": 1, "bytes": path.stat().st_size, "sha256": digest}
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path

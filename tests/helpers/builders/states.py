"""Compare what learners have become."""

import math

import torch

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

"""Embeddings of a tiny method's batch as float64 arrays, and the few numpy functions that references need."""

import numpy as np
import torch

from helpers.rows import batch_for, make
from raydistill.methods import StepInfo

PROGRESS = StepInfo(1, 10)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def numbers(tensor):
    return tensor.detach().double().numpy()


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def method_and_batch(name, **changes):
    """A tiny method and its batch. Batch norm sees the batch alone, so that asking a network twice gives the same."""
    method = make(name, **changes)
    return method, batch_for(method)


def loss_of(method, batch):
    return method.loss(batch, PROGRESS)["loss"].item()


def parameters(module):
    return torch.cat([value.detach().flatten() for value in module.parameters()])

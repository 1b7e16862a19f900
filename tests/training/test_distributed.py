"""Two and three CPU workers do what one does: the same losses, gradients and weights at the same global batch.

The backbones' batch norm is replaced by group norm, which mixes no samples: on CPU each worker's batch
norm sees its own rows only (torch's SyncBatchNorm needs a GPU).
"""

import os
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.requests import request
from helpers.rows import ROWS
from torch import nn

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.planning.prepare import ensure_teachers
from raydistill.training.distributed import Workers
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
TEACHER = {"backbone": "resnet10_w4", "epochs": 1, "batch_size": 16}
PRELOADED = ["torch", "raydistill.training.pack", "raydistill.planning.prepare"]  # once for all processes
DOGO = {"objectives": ["simclr", "simsiam"]}


def settings(name):
    options = ROWS[name] | (DOGO if name == "dogo" else {})
    train = {"epochs": 2, "optimizer": "sgd"}
    return config.load({"method": {"name": name, **options}, "data": DATA, "teacher": TEACHER, "train": train})


def no_evaluation(*_):
    return {}


def without_batch_norm(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        elif isinstance(child, nn.BatchNorm1d):
            setattr(module, name, nn.LayerNorm(child.num_features, elementwise_affine=child.affine))
        else:
            without_batch_norm(child)


def train(rank, world, port, root):
    """Every method for two epochs as this rank: losses, gradients and weights."""
    if world > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=world)
    results = {}
    store = Store(root)
    for name in ROWS:
        workers = Workers()
        pack = Pack(
            load_dataset(DataConfig(**DATA)), DataConfig(**DATA), evaluate=no_evaluation, workers=workers, store=store
        )
        assert pack.add(request(name, settings(name))) is None
        learner = pack.learners[name]
        without_batch_norm(learner.method)
        learner.parameters = [p for p in learner.method.parameters() if p.requires_grad]
        learner.optimizer = torch.optim.SGD(learner.parameters, lr=0.05)
        (first,) = pack.run_epoch()
        gradients = [p.grad.numpy().copy() for p in learner.parameters if p.grad is not None]
        (second,) = pack.run_epoch()
        weights = [p.detach().numpy().copy() for p in learner.parameters]
        weights += [b.numpy().copy() for n, b in learner.method.named_buffers() if n.endswith("log_z")]
        losses = [report.metrics["loss"] for report in (first, second)]
        results[name] = (losses, gradients, weights)
    if world > 1:
        dist.destroy_process_group()
    return results


def answer(rank, world, port, root, queue):
    torch.set_num_threads(1)
    queue.put((rank, train(rank, world, port, root)))


def run(world, root):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    queue = context.Queue()
    processes = [context.Process(target=answer, args=(rank, world, port, root, queue)) for rank in range(world)]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=280) for _ in processes)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return results


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Results by the number of workers; a batch of 16 does not divide among three."""
    root = tmp_path_factory.mktemp("artifacts")
    ensure_teachers(TrialSpec(settings("seed")), Store(root), root / "runs", evaluate=no_evaluation)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = {0: train(0, 1, None, root)}
    torch.set_num_threads(threads)
    return {1: alone, 2: run(2, root), 3: run(3, root)}


@pytest.mark.slow
@pytest.mark.fault(20)
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", ROWS)
def test_several_workers_give_one_workers_losses_gradients_and_weights(groups, name, world):
    one = groups[1][0]
    for rank in range(world):
        for mine, theirs in zip(one[name], groups[world][rank][name], strict=True):
            for a, b in zip(mine, theirs, strict=True):
                a, b = torch.as_tensor(a), torch.as_tensor(b)
                # An entry of a gradient is a sum of terms as large as its largest: float32 rounds those.
                largest = max(1.0, float(a.abs().max()))
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", ROWS)
def test_all_workers_hold_the_same_weights(groups, name, world):
    first, *others = (results[name][2] for results in groups[world].values())
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))

"""Losses written out in numpy, independent of the package, and methods and batches in float64 to compare with them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.rows import batch_for, given, make, options
from raydistill import methods
from raydistill.methods import Batch, FeatureDims, MethodContext, StepInfo, TeacherOutputs
from raydistill.models.queue import TeacherBatch

PROGRESS = StepInfo(0, 10)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def nt_xent(a, b, tau):
    """Term by term, as the formula is printed."""
    z = unit(np.concatenate([a, b]))
    n, total = len(a), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        scores = {k: float(z[i] @ z[k]) / tau for k in range(2 * n) if k != i}
        total -= scores[j] - np.log(sum(np.exp(s) for s in scores.values()))
    return total / (2 * n)


def info_nce(queries, keys, tau):
    """Every query against all keys of the batch, times 2 tau."""
    total = 0.0
    for i, query in enumerate(unit(queries)):
        total -= np.log(softmax(np.array([query @ key / tau for key in unit(keys)]))[i])
    return 2 * tau * total / len(queries)


def moco(queries, keys, queue, tau):
    losses = []
    for a, b in zip(unit(queries), unit(keys), strict=True):
        scores = np.array([a @ b, *(queue @ a)]) / tau
        losses.append(-np.log(softmax(scores)[0]))
    return np.mean(losses)


def seed(student, teacher, queue, tau_s, tau_t, own):
    total = 0.0
    for s, t in zip(unit(student), unit(teacher), strict=True):
        candidates = [t, *queue] if own else list(queue)
        p_t = softmax(np.array([t @ d / tau_t for d in candidates]))
        p_s = softmax(np.array([s @ d / tau_s for d in candidates]))
        total -= sum(a * np.log(b) for a, b in zip(p_t, p_s, strict=True))
    return total / len(student)


def compress(student, teacher, own, theirs, tau):
    total = 0.0
    for s, t in zip(unit(student), unit(teacher), strict=True):
        p, q = softmax(theirs @ t / tau), softmax(own @ s / tau)
        total += (p * np.log(p / q)).sum()
    return total / len(student)


def binary_contrastive(student, teacher, queue, tau, images):
    total, prior = 0.0, len(queue) / images
    for s, t in zip(unit(student), unit(teacher), strict=True):
        own = np.exp(s @ t / tau)
        total -= np.log(own / (own + prior))
        for d in queue:
            other = np.exp(s @ d / tau)
            total -= np.log(1 - other / (other + prior))
    return total / len(student)


def crd_released(student, teacher, queue, tau, images):
    """As CRD's code has it (crd/memory.py, crd/criterion.py) at the first batch: the loss, and Z."""
    scores = np.exp([[s @ d / tau for d in [t, *queue]] for s, t in zip(unit(student), unit(teacher), strict=True)])
    z = scores.mean() * images
    return crd_given_z(scores, z, images), z


def crd_given_z(scores, z, images):
    """The code's loss of e^{s/tau}, the positive in the first column, under a known Z."""
    p, noise = scores / z, (scores.shape[1] - 1) / images
    log_d1 = np.log(p[:, 0] / (p[:, 0] + noise))
    log_d0 = np.log(noise / (p[:, 1:] + noise))
    return -(log_d1.sum() + log_d0.sum()) / len(scores)


def normalized_regression(prediction, target):
    """Term by term: the squared distance of the two unit vectors of each row, then the mean over rows."""
    total = 0.0
    for p, t in zip(prediction, target, strict=True):
        p, t = p / np.sqrt(sum(x * x for x in p)), t / np.sqrt(sum(x * x for x in t))
        total += sum((a - b) ** 2 for a, b in zip(p, t, strict=True))
    return total / len(prediction)


def raw_regression(prediction, target):
    differences = [(a - b) ** 2 for p, t in zip(prediction, target, strict=True) for a, b in zip(p, t, strict=True)]
    return sum(differences) / len(differences)


def distillation(teacher, student, tau):
    """tau² KL of the tempered distributions, mean over rows."""
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        p, q = softmax(t / tau), softmax(s / tau)
        total += sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total / len(teacher)


def cross_entropy(logits, labels):
    return -sum(np.log(softmax(row)[label]) for row, label in zip(logits, labels, strict=True)) / len(logits)


def head(layers, x):
    """What a head in training makes of (N, D): linear layers, batch norm by the batch's statistics, ReLU."""
    for layer in layers:
        weight, bias = (_array(getattr(layer, name, None)) for name in ("weight", "bias"))
        if isinstance(layer, nn.Linear):
            x = x @ weight.T
        elif isinstance(layer, nn.BatchNorm1d):
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + layer.eps)
            x = x if weight is None else x * weight
        else:
            assert isinstance(layer, nn.ReLU)
            x = np.maximum(x, 0)
        x = x if bias is None else x + bias
    return x


def _array(parameter):
    return None if parameter is None else parameter.detach().numpy()


def in_float64(name, **changes):
    """A method whose weights all differ from where they started, those of copies too, and its batch."""
    method = make(name, **changes).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    batch = batch_for(method)
    teachers = [_teacher_in_float64(teacher) for teacher in batch.teachers]
    views = {view: images.double() for view, images in batch.views.items()}
    return method, Batch(views, batch.indices, teachers=teachers, labels=batch.labels)


def _teacher_in_float64(teacher):
    def embed(view, output):
        return teacher(view, output).double()

    def entries(view, output):
        batch = TeacherBatch(embed(view, output))
        batch.rows = F.normalize(batch.raw, dim=1)
        return batch

    return TeacherOutputs(embed, entries)


def features(backbone, batch, view):
    """(N, D) of a backbone in training, as numpy."""
    return backbone(batch.views[view]).detach().numpy()


def states(*modules):
    """Copies of all weights of some modules."""
    return [p.detach().clone() for module in modules for p in module.parameters()]


def stepped(method, batch, progress=PROGRESS):
    """Nudge what gradients move, as an optimizer would, and end the step."""
    method.loss(batch, progress)["loss"].backward()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    method.after_step(progress)


def assert_a_queue_longer_than_the_data_is_refused(name, option):
    with pytest.raises(
        ValueError, match=rf"method.{option} = 65 is longer than the 64 training images; use at most 64"
    ):
        methods.build(options(name, **{option: 65}), given(), seed=0)


def assert_a_single_class_is_refused(name):
    with pytest.raises(ValueError, match="1 classes; expected at least 2"):
        methods.build(options(name), given(class_counts=(64,)), seed=0)


def assert_a_teacher_without_a_head_is_refused(name):
    only_features = MethodContext(8, 16, (8, 8), (FeatureDims(12, None),))
    with pytest.raises(ValueError, match="no head"):
        methods.build(options(name, teacher="head"), only_features, seed=0)


def widths(layers):
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]

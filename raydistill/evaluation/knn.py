"""k-NN classification on frozen features, exact, every k from one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.evaluation.protocols import KnnProtocol, Ties

CHUNK = 4096  # queries that faiss searches for at a time
CHUNK_NUMBERS = 2**24  # similarities that are held at a time on a GPU


# docs/architecture.md#exact-neighbours
def neighbours(train: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of `train` for each query by cosine, nearest first, where the features are.

    A feature of zero norm has similarity 0 to everything.

    Args:
        train: (N, D).
        queries: (M, D), on the same device.
        k: cut to N.

    Returns:
        (M, k) similarities, float32, and (M, k) indices.

    Raises:
        ValueError: empty, mismatched or non-finite features, or k < 1.
    """
    bank, asked = _unit(train, "training features"), _unit(queries, "query features")
    if bank.shape[1] != asked.shape[1]:
        raise ValueError(f"features have {bank.shape[1]} and {asked.shape[1]} dimensions; they must agree")
    if k < 1:
        raise ValueError(f"k = {k}; expected at least 1")
    return (by_faiss if bank.device.type == "cpu" else by_products)(bank, asked, min(k, len(bank)))


def by_faiss(bank: Tensor, asked: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Search on the CPU; any of equally near rows count.

    Args:
        bank: (N, D) of unit length.
        asked: (M, D) of unit length.
        k: at most N.

    Returns:
        (M, k) similarities and (M, k) indices, nearest first.
    """
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.numpy())
    found = [index.search(part.numpy(), k) for part in asked.split(CHUNK)]
    similarities, indices = (torch.cat([torch.from_numpy(pair[i]) for pair in found]) for i in (0, 1))
    return similarities, indices


def by_products(bank: Tensor, asked: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Search by products of matrices, on any device; of equally near rows the first ones count.

    Args:
        bank: (N, D) of unit length.
        asked: (M, D) of unit length.
        k: at most N.

    Returns:
        (M, k) similarities and (M, k) indices, nearest first.
    """
    rows = max(1, CHUNK_NUMBERS // len(bank))
    found = [_largest(part @ bank.T, k) for part in asked.split(rows)]
    similarities, indices = (torch.cat(list(each)) for each in zip(*found, strict=True))
    return similarities, indices


def _largest(numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row (M, N), the first of equal ones, and where they are."""
    values, indices = numbers.topk(k)
    last = values[:, -1:]
    torn = (numbers >= last).sum(1) > k  # `topk` takes any of those that are equal to the last one
    if torn.any():
        whole = numbers[torn]
        order = -torch.arange(whole.shape[1], device=whole.device, dtype=torch.float64)
        rank = torch.where(whole > last[torn], 1.0, torch.where(whole == last[torn], order, -torch.inf))
        indices[torn] = rank.topk(k).indices
    indices = indices.sort(1).values
    values, order = numbers.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)


def vote(
    similarities: Tensor,
    labels: Tensor,
    classes: int,
    *,
    k: int,
    temperature: float | None = None,
    ties: Ties = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the class (M,) that the first k neighbours vote for.

    Args:
        similarities, labels: (M, K) of the neighbours, nearest first.
        classes: number of classes.
        k: how many vote.
        temperature: None for a majority; else each vote weighs exp(cos / T) (DINO, eval_knn.py).
        ties: among tied classes the one whose member is nearest wins, or one at random (SimReg, CompRess).
        generator: draws among ties.

    Raises:
        ValueError: k < 1, a temperature that is not positive, or an unknown rule for ties.
    """
    if k < 1:
        raise ValueError(f"k = {k}; expected at least 1")
    if temperature is not None and not temperature > 0:
        raise ValueError(f"temperature = {temperature}; expected more than 0, or none for a majority vote")
    if ties not in get_args(Ties):
        raise ValueError(f"ties = {ties!r}; expected one of {', '.join(get_args(Ties))}")
    k = min(k, labels.shape[1])
    near, labels = similarities[:, :k].double(), labels[:, :k].long()
    # Relative to the nearest, which changes no winner: exp(1 / T) alone overflows for T < 0.0015. In a majority
    # vote T is infinite: every vote weighs 1.
    weights = torch.exp((near - near.amax(dim=1, keepdim=True)) / (temperature or torch.inf))
    votes = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    if temperature is not None:
        return votes.argmax(dim=1)
    tied = votes == votes.max(dim=1, keepdim=True).values
    if ties == "random":
        lot = torch.rand(votes.shape, generator=generator, dtype=torch.float64).to(votes.device)
        return torch.where(tied, lot, -1.0).argmax(dim=1)
    first = tied.gather(1, labels).int().argmax(dim=1, keepdim=True)
    return labels.gather(1, first).squeeze(1)


def knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    ks: Sequence[int],
    temperature: float | None = None,
    ties: Ties = "nearest",
    seed: int = 0,
) -> dict[int, float]:
    """Accuracy in [0, 1] for each k.

    Args:
        train, train_labels: (N, D) and (N,), the bank.
        queries, query_labels: (M, D) and (M,).
        ks: numbers of neighbours.
        temperature, ties: as for `vote`.
        seed: draws among ties.

    Raises:
        ValueError: features or labels do not fit together.
    """
    if not ks:
        raise ValueError("ks is empty; expected at least one number of neighbours")
    for features, labels, name in ((train, train_labels, "training"), (queries, query_labels, "query")):
        if len(features) != len(labels):
            raise ValueError(f"{len(features)} {name} features but {len(labels)} labels")
        if len(labels) and labels.min() < 0:
            raise ValueError(f"{name} labels must be at least 0, got {int(labels.min())}")
    classes = max((int(labels.max()) + 1 for labels in (train_labels, query_labels) if len(labels)), default=0)
    predicted = knn_predictions(
        train, train_labels, queries, ks=ks, temperature=temperature, ties=ties, seed=seed, classes=classes
    )
    return {k: (labels.cpu() == query_labels.cpu()).double().mean().item() for k, labels in predicted.items()}


def knn_predictions(
    train: Tensor,
    train_labels: Tensor,
    queries: Tensor,
    *,
    ks: Sequence[int],
    temperature: float | None = None,
    ties: Ties = "nearest",
    seed: int = 0,
    classes: int | None = None,
) -> dict[int, Tensor]:
    """The class (M,) of each query, for each k.

    Args:
        train, train_labels: (N, D) and (N,), the bank.
        queries: (M, D).
        ks: numbers of neighbours.
        temperature, ties: as for `vote`.
        seed: draws among ties.
        classes: number of classes; None: those of the bank.

    Raises:
        ValueError: features do not fit together.
    """
    similarities, indices = neighbours(train, queries, max(ks))
    near = train_labels.to(indices.device)[indices]
    generator = torch.Generator().manual_seed(seed)
    settings = {"temperature": temperature, "ties": ties, "generator": generator}
    count = int(train_labels.max()) + 1 if classes is None else classes
    return {k: vote(similarities, near, count, k=k, **settings) for k in ks}  # type: ignore[arg-type]


def knn_scores(
    metric: str, protocol: KnnProtocol, train: Tensor, train_labels: Tensor, queries: Tensor, query_labels: Tensor
) -> dict[str, float]:
    """Scores by a protocol: the mean over its `ks` under the metric's name, and each of `also` under `metric_k`.

    Args:
        metric: `val_knn` or `test_knn`.
        protocol: how the neighbours vote.
        train, train_labels: (N, D) and (N,), the bank.
        queries, query_labels: (M, D) and (M,).

    Raises:
        ValueError: features or labels do not fit together.
    """
    found = knn_accuracy(
        train,
        train_labels,
        queries,
        query_labels,
        ks=(*protocol.ks, *protocol.also),
        temperature=protocol.temperature,
        ties=protocol.ties,
    )
    mean = sum(found[k] for k in protocol.ks) / len(protocol.ks)
    return {metric: mean} | {f"{metric}_{k}": found[k] for k in protocol.also}


def instance_accuracy(first: Tensor, second: Tensor) -> float:
    """Share of rows of `second` (N, D) whose nearest row of `first` (N, D) is of the same image.

    Needs no labels. A tie with another image counts as a miss, so that collapsed features score 0;
    so do cosines that differ by less than 1e-6, which float32 cannot tell apart.
    """
    if first.shape != second.shape:
        raise ValueError(f"views of shapes {tuple(first.shape)} and {tuple(second.shape)}; they must agree")
    similarities, indices = neighbours(first, second, 2)
    hit = indices[:, 0] == torch.arange(len(first), device=indices.device)
    if similarities.shape[1] > 1:
        hit &= similarities[:, 0] - similarities[:, 1] > 1e-6
    return hit.double().mean().item()


def _unit(features: Tensor, name: str) -> Tensor:
    """Rows of unit length, float32; rows of zeros stay zeros."""
    features = features.detach().float()
    if features.ndim != 2 or not len(features):
        raise ValueError(f"{name} of shape {tuple(features.shape)}; expected (N, D) with N >= 1")
    if not torch.isfinite(features).all():
        raise ValueError(f"{name}: {int((~torch.isfinite(features)).any(dim=1).sum())} rows are not finite")
    # Divided by the largest entry first: squares of very large or small entries leave float32's range.
    largest = features.abs().amax(dim=1, keepdim=True)
    return F.normalize(features / largest.where(largest > 0, 1.0), dim=1)

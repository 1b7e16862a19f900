"""The score that a sweep sees while it trains: k-NN on the validation split, never on test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.data.drawing import limited
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.data.views.augment import View, augment, evaluate_view, normalization
from raydistill.evaluation.features import embed, embed_all
from raydistill.evaluation.held_out import HeldOutDistance
from raydistill.evaluation.knn import instance_accuracy, knn_scores
from raydistill.evaluation.protocols import KnnProtocol, knn_protocol
from raydistill.evaluation.rank import effective_rank
from raydistill.evaluation.trajectory_files import chosen_images, write_features
from raydistill.machine import free_memory_of
from raydistill.training.memory import lost_device, release
from raydistill.training.pack import Candidate, Scores

BATCH = 512
FEATURE_BYTES = 2 * 2**30  # of all learners that are scored together
COPIES, LOGITS = 6, 6  # of features and of a probe's logits at a time, counted in numbers of 4 bytes
GPU_SHARE = 0.8  # of a GPU's free memory
INSTANCE_VIEWS = (View("rrcflip", 1_000_000), View("rrcflip", 1_000_001))
Name = tuple[str, str]  # of a learner, and of one of its encoders
Found = dict[str, float] | Exception


# docs/architecture.md#shared-evaluation
def evaluate(learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device) -> Scores:
    """Score learners' encoders, by learner; one that cannot be scored has its exception instead.

    With labels `val_knn`: accuracy of validation images by the training images, by the protocol `eval.knn`.
    Without labels `val_instance`: how often a crop of a validation image finds the other crop of it among
    all of them, and `val_rank`: the effective rank of the features of the first crops. The student's scores have no
    suffix, the others' end in the encoder's name. Of a method that regresses its teachers also `val_mse`, the error of
    its prediction on the validation images.

    Images are read and prepared once for all learners, whose numbers are those of each alone. Students whose ways are
    drawn (`eval.trajectory`) leave their features of a few validation images in a file.

    Args:
        learners: by key.
        dataset: the images.
        device: where the networks are.
    """
    scores: Scores = {}
    for together in _groups(learners, dataset):
        scores |= _evaluate(together, dataset, device)
    return scores | _keep_features(learners, dataset, device)


def _groups(learners: Mapping[str, Candidate], dataset: Dataset) -> Iterator[dict[str, Candidate]]:
    """Learners that look at the same images, as many at once as their features have room."""
    alike: dict[int | None, dict[str, Candidate]] = {}
    for key, learner in learners.items():
        alike.setdefault(learner.settings.bank_images, {})[key] = learner
    for group in alike.values():
        taken: dict[str, Candidate] = {}
        used = 0
        for key, learner in group.items():
            size = _feature_bytes(learner.encoders, dataset)
            if taken and used + size > FEATURE_BYTES:
                yield taken
                taken, used = {}, 0
            taken[key] = learner
            used += size
        yield taken


def _feature_bytes(encoders: Mapping[Any, nn.Module], dataset: Dataset) -> int:
    return sum(4 * len(dataset.bank) * int(getattr(each, "dim", 0)) for each in encoders.values())


def _evaluate(learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device) -> Scores:
    encoders = {(key, name): each for key, learner in learners.items() for name, each in learner.encoders.items()}
    errors: dict[str, nn.Module] = {
        key: HeldOutDistance(learner.method, learner.targets())
        for key, learner in learners.items()
        if learner.method is not None and learner.targets is not None
    }
    if dataset.bank.labels is not None and dataset.val.labels is not None:
        found, mse = _neighbours(encoders, errors, learners, dataset, device)
    else:
        found, mse = _instances(encoders, dataset, device), _held_out(errors, dataset, device)
    scores: Scores = {}
    for key, learner in learners.items():
        parts = {name: found[key, name] for name in learner.encoders}
        failures = [each for each in (*parts.values(), mse.get(key)) if isinstance(each, Exception)]
        if failures:
            scores[key] = failures[0]
            continue
        scores[key] = {
            metric if name == "student" else f"{metric}_{name}": value
            for name, part in parts.items()
            if not isinstance(part, Exception)
            for metric, value in part.items()
        } | ({"val_mse": float(mse[key])} if key in mse else {})  # type: ignore[arg-type]
    return scores


def _keep_features(learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device) -> Scores:
    """Write the features of students whose ways are drawn; the exceptions of those that could not be."""
    asked = {key: learner for key, learner in learners.items() if learner.features is not None}
    if not asked:
        return {}
    views = _Plain(dataset, dataset.val, device, chosen_images(len(dataset.val)))
    found = embed_all({key: each.encoders["student"] for key, each in asked.items()}, views, device, keep=False)
    failed: Scores = {}
    for key, features in found.items():
        try:
            if isinstance(features, Exception):
                raise features
            write_features(asked[key].features, features)  # type: ignore[arg-type]
        except Exception as error:
            if lost_device(error):
                raise
            failed[key] = error
    return failed


def _neighbours(
    encoders: Mapping[Name, nn.Module],
    errors: Mapping[str, nn.Module],
    learners: Mapping[str, Candidate],
    dataset: Dataset,
    device: torch.device,
) -> tuple[dict[Name, Found], dict[str, float | Exception]]:
    """k-NN scores of encoders, and held-out errors by learner, all from one pass over the images."""
    (most,) = {learner.settings.bank_images for learner in learners.values()}
    bank = _Plain(dataset, dataset.bank, device, _bank(dataset.bank, most))
    asked = _Plain(dataset, dataset.val, device, range(len(dataset.val)))
    keep = _feature_bytes(encoders, dataset) <= FEATURE_BYTES  # else they are too many for a GPU
    train = embed_all(encoders, bank, device, keep=keep)
    val = embed_all({**encoders, **errors}, asked, device, keep=keep)

    def score(protocol: KnnProtocol, head: nn.Module | None, near: Tensor, queries: Tensor) -> dict[str, float]:
        """Scores by a protocol.

        Args:
            protocol: which.
            head: gives the features, if there is one.
            near: (N, D), the encoder's of the bank.
            queries: (M, D), the encoder's.
        """
        if head is not None:
            near, queries = (embed(head, rows.split(BATCH), device).to(rows.device) for rows in (near, queries))
        return knn_scores("val_knn", protocol, near, bank.labels(), queries, asked.labels())

    found: dict[Name, Found] = {}
    for key, encoder in encoders:
        protocol = knn_protocol(learners[key].settings)
        method = learners[key].method
        head = method.head() if method is not None and protocol.on_head and encoder == "student" else None
        own = (key, encoder)
        found[own] = _tried(partial(score, protocol, head), train[own], val[own])
    return found, {key: _mean(val[key]) for key in errors}


def _instances(encoders: Mapping[Name, nn.Module], dataset: Dataset, device: torch.device) -> dict[Name, Found]:
    def score(first: Tensor, second: Tensor) -> dict[str, float]:
        return {"val_instance": instance_accuracy(first, second), "val_rank": effective_rank(first)}

    first, second = (embed_all(encoders, crops(dataset, dataset.val, v, device), device) for v in INSTANCE_VIEWS)
    return {name: _tried(score, first[name], second[name]) for name in encoders}


def _held_out(errors: Mapping[str, nn.Module], dataset: Dataset, device: torch.device) -> dict[str, float | Exception]:
    """Held-out errors by learner, from a pass over the validation images of their own."""
    if not errors:
        return {}
    found = embed_all(errors, _Plain(dataset, dataset.val, device, range(len(dataset.val))), device)
    return {key: _mean(rows) for key, rows in found.items()}


def _mean(rows: Tensor | Exception) -> float | Exception:
    """Mean of the rows (N, 1), or why there is none."""
    if isinstance(rows, Exception):
        return rows
    mean = rows.double().mean()
    return mean.item() if torch.isfinite(mean) else ValueError("predictions of the teacher are not finite")


def instance_score(encoder: nn.Module, dataset: Dataset, split: Images, device: torch.device) -> float:
    """Share of images of the split of which one crop finds the other crop among all of them; needs no labels.

    Args:
        encoder: the network.
        dataset: the images.
        split: which of them.
        device: where the network is.
    """
    return instance_accuracy(*(embed(encoder, crops(dataset, split, view, device), device) for view in INSTANCE_VIEWS))


def _tried(score: Callable[[Tensor, Tensor], dict[str, float]], *features: Tensor | Exception) -> Found:
    """The scores, or why there are none: an encoder that failed, or features that are not finite."""
    failures = [each for each in features if isinstance(each, Exception)]
    if failures:
        return failures[0]
    try:
        return score(*features)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        if lost_device(error):
            raise
        release(error, features[0].device)  # type: ignore[union-attr]
        return error


def _bank(images: Images, most: int | None) -> Sequence[int]:
    """Choose the images that validation images are compared with: all, or the same sample in every trial."""
    return list(map(int, limited(images.labels, len(images), (0, 3), most)))


def embed_split(
    encoder: nn.Module, dataset: Dataset, split: Images, device: torch.device, *, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute features (N, D) of a split without augmentation, and labels (N,); -1 where there are none.

    Args:
        encoder: the network.
        dataset: the images.
        split: which of them.
        device: where the network is.
        keep: whether both stay there; else they come to the CPU.
    """
    views = _Plain(dataset, split, device, range(len(split)))
    features = embed(encoder, views, device, keep=keep)
    return features, views.labels().to(features.device)


def has_room(encoder: nn.Module, dataset: Dataset, device: torch.device) -> bool:
    """Return whether a GPU holds the features of all images, and what k-NN and a probe make of them.

    An encoder that does not say its width (`dim`) has none.

    Args:
        encoder: the network.
        dataset: the images.
        device: the GPU.
    """
    width = int(getattr(encoder, "dim", 0))
    images = len(dataset.bank) + len(dataset.val) + len(dataset.test)
    need = 4 * (COPIES * images * width + LOGITS * len(dataset.bank) * len(dataset.classes))
    return width > 0 and need <= GPU_SHARE * free_memory_of(device)


class _Plain:
    """Batches of a split without augmentation; iterated once, it knows the labels of what it gave."""

    def __init__(self, dataset: Dataset, split: Images, device: torch.device, indices: Sequence[int]) -> None:
        self._dataset, self._split, self._device, self._indices = dataset, split, device, indices
        self._used: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        normalize = normalization(self._dataset.name, self._dataset.image_size)
        for images, kept in _chunks(self._split, self._indices):
            self._used.append(kept)
            yield evaluate_view(images, size=self._dataset.image_size, normalize=normalize, device=self._device)

    def labels(self) -> Tensor:
        """(N,); -1 where there are none."""
        rows = torch.cat(self._used)
        return self._split.labels[rows] if self._split.labels is not None else torch.full((len(rows),), -1)


def _chunks(split: Images, indices: Sequence[int]) -> Iterator[tuple[list[Tensor] | Tensor, Tensor]]:
    for start in range(0, len(indices), BATCH):
        yield split.fetch(list(indices[start : start + BATCH]))


def crops(dataset: Dataset, split: Images, view: View, device: torch.device) -> Iterator[Tensor]:
    """Batches (B, 3, S, S) of a split, augmented, the same each time.

    Args:
        dataset: the images.
        split: which of them.
        view: the augmentation; `INSTANCE_VIEWS` are two crops of each image, drawn apart.
        device: where the batches are made.
    """
    normalize = normalization(dataset.name, dataset.image_size)
    for images, kept in _chunks(split, range(len(split))):
        yield augment(
            images,
            kept,
            view,
            size=dataset.image_size,
            seed=0,
            epoch=0,
            normalize=normalize,
            device=device,
            kind=dataset.kind,
        )

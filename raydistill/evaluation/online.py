"""The score that a sweep sees while it trains: k-NN on the validation split, never on test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from raydistill.data.augment import View, augment, evaluate_view, normalization
from raydistill.data.images import Images, limited
from raydistill.data.sources import Dataset
from raydistill.evaluation.features import embed, embed_all
from raydistill.evaluation.knn import instance_accuracy, knn_accuracy
from raydistill.training.pack import Candidate, Scores

BATCH = 512
FEATURE_BYTES = 2 * 2**30  # of all learners that are scored together
INSTANCE_VIEWS = (View("rrcflip", 1_000_000), View("rrcflip", 1_000_001))
Name = tuple[str, str]  # of a learner, and of one of its encoders


# docs/architecture.md#shared-evaluation
def evaluate(learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device) -> Scores:
    """Score learners' encoders, by learner; one that cannot be scored has its exception instead.

    With labels `val_knn`: accuracy of validation images by the training images, averaged over `eval.ks`.
    Without labels `val_instance`: how often a crop of a validation image finds the other crop of it among
    all of them. The student's scores have no suffix, the others' end in the encoder's name.

    Images are read and prepared once for all learners, whose numbers are those of each alone.

    Args:
        learners: by key.
        dataset: the images.
        device: where the networks are.
    """
    scores: Scores = {}
    for together in _groups(learners, dataset):
        scores |= _evaluate(together, dataset, device)
    return scores


def _groups(learners: Mapping[str, Candidate], dataset: Dataset) -> Iterator[dict[str, Candidate]]:
    """Learners that look at the same images, as many at once as their features have room."""
    alike: dict[int | None, dict[str, Candidate]] = {}
    for key, learner in learners.items():
        alike.setdefault(learner.settings.bank_images, {})[key] = learner
    for group in alike.values():
        taken: dict[str, Candidate] = {}
        used = 0
        for key, learner in group.items():
            size = sum(4 * len(dataset.train) * int(getattr(each, "dim", 0)) for each in learner.encoders.values())
            if taken and used + size > FEATURE_BYTES:
                yield taken
                taken, used = {}, 0
            taken[key] = learner
            used += size
        yield taken


def _evaluate(learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device) -> Scores:
    encoders = {(key, name): each for key, learner in learners.items() for name, each in learner.encoders.items()}
    if dataset.train.labels is not None and dataset.val.labels is not None:
        metric, found = "val_knn", _neighbours(encoders, learners, dataset, device)
    else:
        metric, found = "val_instance", _instances(encoders, dataset, device)
    scores: Scores = {}
    for key, learner in learners.items():
        own: dict[str, float] = {}
        failures = []
        for name in learner.encoders:
            value = found[key, name]
            if isinstance(value, Exception):
                failures.append(value)
            else:
                own[metric if name == "student" else f"{metric}_{name}"] = value
        scores[key] = failures[0] if failures else own
    return scores


def _neighbours(
    encoders: Mapping[Name, nn.Module], learners: Mapping[str, Candidate], dataset: Dataset, device: torch.device
) -> dict[Name, float | Exception]:
    (most,) = {learner.settings.bank_images for learner in learners.values()}
    bank = _Plain(dataset, dataset.train, device, _bank(dataset.train, most))
    asked = _Plain(dataset, dataset.val, device, range(len(dataset.val)))
    train, val = embed_all(encoders, bank, device), embed_all(encoders, asked, device)

    def accuracy(ks: Sequence[int], near: Tensor, queries: Tensor) -> float:
        """Mean accuracy over several numbers of neighbours.

        Args:
            ks: numbers of neighbours.
            near: (N, D) features of the bank.
            queries: (M, D) features.
        """
        scores = knn_accuracy(near, bank.labels(), queries, asked.labels(), ks=ks)
        return sum(scores.values()) / len(scores)

    return {name: _tried(partial(accuracy, learners[name[0]].settings.ks), train[name], val[name]) for name in encoders}


def _instances(
    encoders: Mapping[Name, nn.Module], dataset: Dataset, device: torch.device
) -> dict[Name, float | Exception]:
    first, second = (embed_all(encoders, _crops(dataset, dataset.val, v, device), device) for v in INSTANCE_VIEWS)
    return {name: _tried(instance_accuracy, first[name], second[name]) for name in encoders}


def instance_score(encoder: nn.Module, dataset: Dataset, split: Images, device: torch.device) -> float:
    """Share of images of the split of which one crop finds the other crop among all of them; needs no labels.

    Args:
        encoder: the network.
        dataset: the images.
        split: which of them.
        device: where the network is.
    """
    return instance_accuracy(*(embed(encoder, _crops(dataset, split, view, device), device) for view in INSTANCE_VIEWS))


def _tried(score: Callable[[Tensor, Tensor], float], *features: Tensor | Exception) -> float | Exception:
    """The score, or why there is none: an encoder that failed, or features that are not finite."""
    failures = [each for each in features if isinstance(each, Exception)]
    if failures:
        return failures[0]
    try:
        return score(*features)  # type: ignore[arg-type]
    except ValueError as error:
        return error


def _bank(train: Images, most: int | None) -> Sequence[int]:
    """Choose the training images that validation images are compared with: all, or the same sample in every trial."""
    return list(map(int, limited(train.labels, len(train), (0, 3), most)))


def embed_split(encoder: nn.Module, dataset: Dataset, split: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute features (N, D) of a split without augmentation, and labels (N,); -1 where there are none.

    Args:
        encoder: the network.
        dataset: the images.
        split: which of them.
        device: where the network is.
    """
    views = _Plain(dataset, split, device, range(len(split)))
    return embed(encoder, views, device), views.labels()


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


def _crops(dataset: Dataset, split: Images, view: View, device: torch.device) -> Iterator[Tensor]:
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

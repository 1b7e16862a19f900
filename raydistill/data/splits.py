"""Division of images into training, validation and test, and into those that scores learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from raydistill.config import DataConfig
from raydistill.data.copies import find_copies
from raydistill.data.drawing import draw, draw_by_name
from raydistill.data.images import LABELS, DataError, Raw
from raydistill.redaction import redact

TEST_FRACTION = 0.2  # of train, for sources that bring no test split
Part = tuple[Raw, np.ndarray]


@dataclass(frozen=True)
class Division:
    """Rows of sources: `train`, `val`, `test`, and `labelled` where scores learn from other images than `train`.

    `left_out` are the rows of the training source that do not train, since validation or test has the same images;
    `notes` say so in words.
    """

    parts: dict[str, Part]
    left_out: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def divide_labelled(raws: dict[str, Raw], labelled: dict[str, Raw] | None, config: DataConfig) -> Division:
    """Divide images where scores may need other images than training: the labelled ones.

    With a labelled source, all of the training split trains; validation, test and what scores learn from are divided
    among the labelled images. Where only a part of one source has labels, they are divided among that part, and
    everything trains that does not validate or test.

    Args:
        raws: the splits of `data.source`.
        labelled: those of `data.labelled`, if there is one.
        config: the settings.

    Raises:
        DataError: the labelled images cannot give scores.
    """
    if labelled is not None:
        return _beside(raws["train"], labelled, config)
    parts = divide(raws, config)
    train, rows = parts["train"]
    known = train.labelled(rows)
    place = f"{LABELS}{redact(config.source)}"
    notes = [*_hidden_labels(raws, place), *_left_out(parts, place)]
    if len(known) == len(rows):
        scored = {split: part for split, part in _labelled(parts).items() if split != "train"}
        return Division({**parts, **scored}, notes=tuple(notes))
    note = (
        f"{place}: {len(rows) - len(known)} of {len(rows)} training images have no label; all train, "
        "the labelled ones also give the scores"
    )
    return Division({**_labelled(parts), "train": parts["train"], "labelled": (train, known)}, notes=(*notes, note))


def divide(raws: dict[str, Raw], config: DataConfig) -> dict[str, Part]:
    """Choose, for train, val and test, which source split to read and its sorted rows; no row is in two of them.

    Where only a part of the images has labels, what is held out is drawn from that part.

    Args:
        raws: the splits that the source has.
        config: says which share validates, where there is no validation split, the seed, and how images are drawn.
    """
    raws = _that_score(raws)
    train = raws["train"]
    rows = np.arange(train.count)
    whole = {split: (raw, np.arange(raw.count)) for split, raw in raws.items()}
    if "val" in raws and "test" in raws:
        return whole
    if "test" in raws or "val" in raws:
        test = whole["test" if "test" in raws else "val"]
    else:
        rows, held_out = _hold_out(train, rows, config, TEST_FRACTION)
        test = (train, held_out)
    rows, held_out = _hold_out(train, rows, config, None)
    return {"train": (train, rows), "val": (train, held_out), "test": test}


def _that_score(raws: dict[str, Raw]) -> dict[str, Raw]:
    """The splits to use: a test split without labels gives way to a validation split that has them."""
    hidden = "test" in raws and raws["test"].labels is None
    if hidden and "val" in raws and raws["val"].labels is not None:
        return {split: raw for split, raw in raws.items() if split != "test"}
    return raws


def _hidden_labels(raws: dict[str, Raw], source: str) -> list[str]:
    """Say which splits have no labels where the training images have some.

    Args:
        raws: the splits of the source.
        source: its name, as notes begin.
    """
    if raws["train"].labels is None:
        return []
    if _that_score(raws) is not raws:
        return [
            f"{source}: the test split has no labels, so the validation split is the test split, and validation images "
            "are drawn from the training images"
        ]
    hidden = [split for split in ("val", "test") if split in raws and raws[split].labels is None]
    if hidden == ["val"] and "test" in raws:
        return [f"{source}: the validation split has no labels, so the winner is chosen by val_instance, no accuracy"]
    if hidden:
        return [
            f"{source}: the {hidden[-1]} split has no labels, so there is no test accuracy; test_instance is another "
            "score, not to be compared with val_knn"
        ]
    return []


def _left_out(parts: dict[str, Part], source: str) -> Iterator[str]:
    """Say how many images are no part of the scores, since they have no label where others of their split have one.

    Args:
        parts: the images of each split.
        source: its name, as notes begin.
    """
    for split in ("val", "test"):
        raw, rows = parts[split]
        if missing := len(rows) - len(raw.labelled(rows)):
            yield f"{source}: {missing} of {len(rows)} {split} images have no label and are left out of the scores"


def labels_of(raw: Raw, rows: np.ndarray) -> Tensor | None:
    """The labels of some rows, if there are any."""
    return None if raw.labels is None else raw.labels[rows]


def _hold_out(raw: Raw, rows: np.ndarray, config: DataConfig, test: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into those that stay and those that are held out, both sorted.

    Args:
        raw: the source.
        rows: of it.
        config: the seed, the share of validation, and how images are drawn.
        test: share of the test split; None: the validation split is drawn.
    """
    known = raw.labelled(rows)
    labels = labels_of(raw, known)
    seed = (config.split_seed, 1 if test is None else 0)
    fraction = config.validation_fraction if test is None else test
    if config.split == "names" and raw.key is not None:
        taken = draw_by_name(labels, [raw.key(row) for row in known.tolist()], seed, fraction)[1]
    else:
        taken = draw(labels, len(known), seed, fraction)[1]
    held_out = known[taken]
    return np.setdiff1d(rows, held_out, assume_unique=True), held_out


def _labelled(parts: dict[str, Part]) -> dict[str, Part]:
    return {split: (raw, raw.labelled(rows)) for split, (raw, rows) in parts.items()}


def _beside(train: Raw, labelled: dict[str, Raw], config: DataConfig) -> Division:
    """All of `train`, scored by a labelled source; images that occur in both never validate or test and train."""
    called, source = f"data.labelled={redact(str(config.labelled))!r}", redact(config.source)
    _check_labels(called, labelled)
    known = _labelled(divide(_only_labelled(labelled), config))
    notes = []
    for split, others in (("val", ["test"]), ("train", ["val", "test"])):
        raw, rows = known[split]
        copied = find_copies(known[split], [known[other] for other in others])
        known[split] = raw, rows[~copied]
        if copied.any():
            notes.append(
                f"{called}: {copied.sum()} {split} images are left out, since {' or '.join(others)} has them too"
            )
    _check_classes(called, known)
    rows = np.arange(train.count)
    copied = find_copies((train, rows), [known["val"], known["test"]])
    if copied.any():
        notes.append(
            f"{source}: {copied.sum()} images are also validation or test images of {called}, and do not train"
        )
    parts = {"train": (train, rows[~copied]), "labelled": known["train"], "val": known["val"], "test": known["test"]}
    return Division(parts, tuple(rows[copied].tolist()), tuple(notes))


def _only_labelled(raws: dict[str, Raw]) -> dict[str, Raw]:
    """Splits that have labels; a validation or test split without any is as good as none."""
    return {split: raw for split, raw in raws.items() if raw.labels is not None}


def _check_labels(called: str, labelled: dict[str, Raw]) -> None:
    """Refuse a source without labels, or with a class that cannot be divided. Raises: DataError."""
    raw = labelled["train"]
    if raw.labels is None:
        why = f" ({'; '.join(raw.notes)})" if raw.notes else ""
        raise DataError(
            f"{called} has no labels{why}; give a folder with one folder for each class, Parquet with a column "
            "label, or torchvision:NAME"
        )
    found, counts = np.unique(raw.labels.numpy()[raw.labelled(np.arange(raw.count))], return_counts=True)
    if len(found) < 2:
        raise DataError(f"{called} has a single class ({raw.classes[int(found[0])]}); scores need two or more")
    own = len([split for split in ("val", "test") if split in _only_labelled(labelled)])
    needed, least, fewest = 3 - own, int(found[counts.argmin()]), int(counts.min())
    if fewest < needed:
        what = ("to learn from", *(("to validate by", "to test by")[: needed - 1]))
        raise DataError(
            f"{called}: class {raw.classes[least]} has {fewest} image{'s' if fewest > 1 else ''}; "
            f"each class needs at least {needed}: one each {', '.join(what)}"
        )


def _check_classes(called: str, known: dict[str, Part]) -> None:
    """Refuse classes of which copies have left nothing to learn from. Raises: DataError."""
    found = {split: set(labels_of(*part).tolist()) for split, part in known.items()}  # type: ignore[union-attr]
    missing = (found["val"] | found["test"]) - found["train"]
    if missing:
        raw = known["train"][0]
        names = ", ".join(raw.classes[label] for label in sorted(missing)[:5])
        raise DataError(f"{called}: no image is left to learn from of class {names}")

"""Folders of images as splits and classes. A folder that can be read in two ways is refused."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raydistill.data.images import LABELS, DataError, Encoded, Raw, state_of
from raydistill.data.layouts.annotations import labels_beside
from raydistill.data.layouts.tree import EXTENSIONS, Folder, printable, scan

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_FILLERS = frozenset(("data", "dataset", "folder", "image", "images", "img", "imgs", "set", "split"))
_SHOWN = 5  # names in a message


def read_folder(path: Path) -> dict[str, Raw]:
    """`train/`, `val/`, `test/`, each with one folder per class or flat; or one such folder alone.

    Names of splits are understood in any case and in the usual variants. Files come in sorted order.

    Raises:
        DataError: no images, or a folder that can be read in two ways.
    """
    if (listed := domain_lists(path)) is not None:
        return {split: _listed(path.parent, file, listed["train"]) for split, file in listed.items()}
    root = scan(path)
    if not (root.images or root.folders):
        there = f", but {_counted(root.passed)}" if root.passed else ""
        raise DataError(f"{_shown(root)}: no image and no Parquet{there}; accepted: .parquet, {_endings()}")
    splits = _splits(root)
    domains = [folder.name for folder in root.folders if domain_lists(folder.path) is not None]
    if domains:
        raise DataError(f"{_shown(root)}: holds the domains {_list(domains)}; give one, as in {path / domains[0]}")
    if not splits:
        _check_no_split_inside(root)
        return {"train": _one_folder(root, path)}
    for folder in splits.values():
        _check_no_split_inside(folder)
    return _split_folders(root, splits)


# --- lists of files, as DomainNet has them


def domain_lists(path: Path) -> dict[str, Path] | None:
    """The lists `NAME_train.txt` and `NAME_test.txt` beside a folder NAME; None where there are none."""
    files = {split: path.parent / f"{path.name}_{split}.txt" for split in ("train", "test")}
    return files if all(file.is_file() for file in files.values()) else None


def _listed(root: Path, file: Path, train: Path) -> Raw:
    """The images that a list names, with the number of their class; classes are named by their folders.

    Args:
        root: the folder that the paths in the list are relative to.
        file: the list; a path and a number in each line.
        train: the list of the training images, which tells the names of all classes.

    Raises:
        DataError: a line is no path and number.
    """
    paths, numbers = _rows_of(file)
    names = dict(zip(_rows_of(train)[1], (Path(path).parent.name for path in _rows_of(train)[0]), strict=True))
    unknown = sorted({number for number in numbers if number not in names})
    if unknown or sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: classes that {train.name} does not have: {_list(list(map(str, unknown)))}")
    files = [str(root / path) for path in paths]
    return _raw(root, files, torch.tensor(numbers), tuple(names[number] for number in range(len(names))), [])


def _rows_of(file: Path) -> tuple[list[str], list[int]]:
    try:
        rows = [line.rsplit(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [path for path, _ in rows], [int(number) for _, number in rows]
    except ValueError as error:
        raise DataError(f"{file}: a line is no path and number ({error})") from None


# --- splits


def split_of(name: str) -> tuple[str, bool] | None:
    """The split that a folder's name tells of, and whether the name says nothing else: `Train_Set`, `val2017`.

    `seg_train` is (train, False); a name without a split's word is None.
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    splits = [_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS]
    if not splits:
        return None
    return splits[0], len(splits) == 1 and all(word in _SPLIT_WORDS or word in _FILLERS for word in words)


def _splits(root: Folder) -> dict[str, Folder]:
    """The folders of splits; none if all folders are classes. Raises DataError where that is not clear."""
    named = {folder.path.name: split_of(folder.path.name) for folder in root.folders}
    found: dict[str, Folder] = {}
    for folder in root.folders:
        match = named[folder.path.name]
        if match is None or not match[1]:
            continue
        split = match[0]
        if split in found:
            raise DataError(f"{_shown(folder)} and {_shown(found[split])} both claim to be the {split} split; keep one")
        found[split] = folder
    others = [folder.name for folder in root.folders if folder not in found.values()]
    if not found:
        _check_not_nearly_splits(root, {name: match[0] for name, match in named.items() if match})
    elif others and (len(found) == 1 or "train" not in found):
        split, folder = next(iter(found.items()))
        raise DataError(
            f"{_shown(root)}: the folder {folder.name} is either the {split} split or a class beside {_list(others)}; "
            f"if it is a class, give it another name, such as {folder.name}-class; if it is a split, move the other "
            "folders out, or put the classes into it"
        )
    elif found and "train" not in found:
        raise DataError(f"{_shown(root)}: has {', '.join(sorted(found))} but no train folder")
    return found


def _check_not_nearly_splits(root: Folder, loose: dict[str, str]) -> None:
    """Refuse names such as seg_train and seg_test beside each other. Raises: DataError."""
    if "train" in loose.values() and len(set(loose.values())) > 1 and 2 * len(loose) >= len(root.folders):
        advice = ", ".join(f"{printable(name)} to {split}" for name, split in sorted(loose.items()))
        raise DataError(
            f"{_shown(root)}: {_list(sorted(map(printable, loose)))} look like splits, but have names of classes; if "
            f"they are splits, rename them ({advice}); if they are classes, give them names without train, val or test"
        )


def _check_no_split_inside(root: Folder) -> None:
    """Refuse folders of splits that lie inside what would be classes. Raises: DataError."""
    for folder in root.folders:
        inside = {match[0] for child in folder.folders if (match := split_of(child.path.name)) and match[1]}
        if "train" not in inside or len(inside) < 2:
            continue
        where = f"{_shown(root)}: the folder {folder.name} holds {', '.join(sorted(inside))}"
        if len(root.folders) == 1:
            raise DataError(f"{where}; give {_shown(folder)} instead, which is read by its splits")
        raise DataError(
            f"{where}, which would all become one class; splits have to be the outermost folders, as in train/CLASS "
            f"and test/CLASS{f'; or give {_shown(folder)}' if folder.name.lower() in _FILLERS else ''}"
        )


def _split_folders(root: Folder, splits: dict[str, Folder]) -> dict[str, Raw]:
    read = {split: _one_folder(folder, root.path) for split, folder in splits.items()}
    notes = []
    others = [folder for folder in root.folders if folder not in splits.values()]
    if others:
        count = sum(folder.count() for folder in others)
        notes.append(f"{_shown(root)}: passed over {_list([f.name for f in others])}, no split (images: {count})")
    if root.images:
        notes.append(f"{_shown(root)}: passed over images beside the splits ({len(root.images)})")
    notes += _passed_over(root, root.passed - sum((folder.passed for folder in splits.values()), Counter()))
    read["train"] = replace(read["train"], notes=(*notes, *read["train"].notes))
    return _same_classes(splits, read)


def _same_classes(folders: dict[str, Folder], read: dict[str, Raw]) -> dict[str, Raw]:
    """Give every split the same classes, and note what is missing where. Raises DataError."""
    train = read["train"]
    for split, raw in read.items():
        if train.classes and len(raw.classes) == 1 and raw.classes[0] not in train.classes:
            read[split] = _without_labels(raw, _shown(folders[split]))
    classes = tuple(sorted({name for raw in read.values() for name in raw.classes}))
    _check_case(classes, _shown(folders["train"]))
    for split, raw in read.items():
        if not raw.classes:
            continue
        missing = [name for name in classes if name not in raw.classes]
        note = [f"{_shown(folders[split])}: no image of {_list(missing)}, which other splits have"] if missing else []
        places = torch.tensor([classes.index(name) for name in raw.classes])
        assert raw.labels is not None
        labels = torch.where(raw.labels < 0, raw.labels, places[raw.labels.clamp(min=0)])
        read[split] = replace(raw, labels=labels, classes=classes, notes=(*raw.notes, *note))
    return read


# --- classes


def _one_folder(root: Folder, above: Path) -> Raw:
    """A folder with a folder for each class, or with images alone. Raises DataError for both.

    Args:
        root: the folder.
        above: the folder of all splits, which may hold a file of labels.
    """
    if root.images and root.folders:
        raise DataError(
            f"{_shown(root)}: holds both images ({printable(root.images[0])}) and folders ({root.folders[0].name}); "
            "use one kind, or keep labelled images in a folder of their own and name it by data.labelled"
        )
    files = [str(root.path / name) for name in root.images]
    labels: list[int] = []
    for label, folder in enumerate(root.folders):
        inside = folder.files()
        files += inside
        labels += [label] * len(inside)
    classes = tuple(folder.name for folder in root.folders)
    notes = _passed_over(root, root.passed)
    if len(classes) < 2 and (annotated := labels_beside(root, above)) is not None:
        place, known = annotated
        classes = tuple(sorted(set(known.values()), key=numbers_first))
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers[known[file]] if file in known else -1 for file in files]
        notes.append(f"{_shown(root)}: labels of {len(known)} of {len(files)} images from {printable(str(place))}")
    _check_case(classes, _shown(root))
    raw = _raw(above, files, torch.tensor(labels, dtype=torch.int64) if classes else None, classes, notes)
    only = root.folders[0] if len(root.folders) == 1 else None
    return _without_labels(raw, _shown(root), only) if only and classes == (only.name,) else raw


def _raw(root: Path, files: list[str], labels: torch.Tensor | None, classes: tuple[str, ...], notes: list[str]) -> Raw:
    """Files as a source.

    Args:
        root: the folder that their names are relative to.
        files: their paths.
        labels: of them.
        classes: names of the labels.
        notes: what is to be said of them.
    """
    return Raw(
        count=len(files),
        open=lambda index: Image.open(files[index]),
        name=lambda index: printable(files[index]),
        key=lambda index: os.path.relpath(files[index], root),
        labels=labels,
        classes=classes,
        state=lambda rows: state_of(files[row] for row in rows.tolist()),
        encoded=Encoded(
            lambda: np.array([_length(file) for file in files]),
            lambda index: Path(files[index]).read_bytes(),
        ),
        notes=tuple(notes),
    )


def _length(file: str) -> int:
    """Bytes of a file; -1 for a broken link."""
    try:
        return Path(file).stat().st_size
    except OSError:
        return -1


def _without_labels(raw: Raw, place: str, only: Folder | None = None) -> Raw:
    """One class for all is no label. Raises DataError where the classes lie a folder deeper.

    Args:
        raw: with a single class.
        place: its folder, for messages.
        only: the folder of the class, if folders in it may be the classes.
    """
    if only is not None and len(only.folders) > 1 and not only.images:
        raise DataError(
            f"{place}: all images lie in one folder, {only.name}, which is no class; the classes seem to be "
            f"{_list([f.name for f in only.folders])}: give {_shown(only)} instead"
        )
    note = f"{LABELS}{place}: all images lie in one folder, {raw.classes[0]}, which is no label: they have none"
    return replace(raw, labels=None, classes=(), notes=(*raw.notes, note))


def _check_case(classes: tuple[str, ...], place: str) -> None:
    """Refuse classes whose names differ in capitals alone. Raises: DataError."""
    known: dict[str, str] = {}
    for name in classes:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(f"{place}: the classes {other} and {name} differ in capital letters only; rename one")


def numbers_first(name: str) -> tuple[bool, int, str]:
    """Sort classes that are numbers by their value, before all others."""
    return (False, int(name), "") if name.isdecimal() else (True, 0, name)


def _passed_over(root: Folder, passed: Counter[str]) -> list[str]:
    """Say what is passed over in a folder, and which folders are empty."""
    notes = [f"passed over {_counted(passed)}"] if passed else []
    notes += [f"no image in {_list(root.empty)}"] if root.empty else []
    return [f"{_shown(root)}: {'; '.join(notes)}"] if notes else []


def _shown(folder: Folder) -> str:
    return printable(str(folder.path))


def _list(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _counted(passed: Counter[str]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(passed.items()))


def _endings() -> str:
    return ", ".join(sorted(EXTENSIONS))

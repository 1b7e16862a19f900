"""Files that hold many images each: which split they belong to, and in which order."""

from __future__ import annotations

import re
from pathlib import Path

from raydistill.data.images import DataError
from raydistill.data.layouts.folders import split_of

# NAME-00000-of-00002, with or without a hash after it; and 0000 as the Hub converts data sets
_SHARD = re.compile(r"(?P<name>.*?)[-_.]?(?P<index>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]{8,})?")
_NUMBERED = re.compile(r"(?P<name>.*?)[-_.]?(?P<index>\d+)")


def find_shards(path: Path, ending: str) -> dict[str, list[Path]]:
    """The files of each split in a folder, in order; none where the folder holds no such file.

    Layouts of the Hub: `train-00000-of-00002-HASH.parquet` and the like, here, in `data/` or in a folder of a
    configuration, and `CONFIG/SPLIT/0000.parquet`. Hidden files and folders are passed over.

    Args:
        path: the folder.
        ending: of the files, `.parquet` or `.tar`.

    Raises:
        DataError: several configurations, two sets of files for one split, missing shards, or no training split.
    """
    files = sorted(file for file in path.rglob(f"*{ending}") if not _hidden(file.relative_to(path)))
    if not files:
        return {}
    found: dict[str, dict[str, list[Path]]] = {}
    for file in files:
        config, split = _place_of(file.relative_to(path))
        found.setdefault(config, {}).setdefault(split, []).append(file)
    if len(found) > 1:
        names = sorted(config or "." for config in found)
        raise DataError(f"{path}: holds several sets of {ending} files ({', '.join(names[:5])}); give one of them")
    splits = next(iter(found.values()))
    if set(splits) == {""}:
        splits = {"train": splits[""]}
    if "train" not in splits or "" in splits:
        raise DataError(f"{path}: no train*{ending} among {', '.join(file.name for file in files[:5])}")
    return {split: _in_order(split, shards) for split, shards in splits.items()}


def _hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _place_of(file: Path) -> tuple[str, str]:
    """The configuration and the split that a file belongs to, each empty where its path says none.

    The Hub's conversion calls a split that it cut short `partial-train`.
    """
    match = split_of(file.stem)
    folders = list(file.parts[:-1])
    if match is None and folders:
        match = split_of(folders[-1])
        folders = folders[:-1] if match else folders
    if folders == ["data"]:
        folders = []
    return "/".join(folders), match[0] if match else ""


def _in_order(split: str, shards: list[Path]) -> list[Path]:
    """The shards of a split by their numbers. Raises DataError where they are not one set, or not all of it."""
    matches = [_SHARD.fullmatch(shard.stem) or _NUMBERED.fullmatch(shard.stem) for shard in shards]
    kinds = {
        (shard.parent, m and m["name"], m and m.groupdict().get("count"))
        for shard, m in zip(shards, matches, strict=True)
    }
    numbers = [int(m["index"]) for m in matches if m]
    if len(shards) > 1 and (len(kinds) > 1 or len(set(numbers)) < len(shards)):
        raise DataError(f"{shards[0]} and {shards[-1]} both claim to be the {split} split; keep one")
    first = matches[0]
    count = int(first.groupdict().get("count") or 0) if first else 0
    if count and count != len(shards):
        raise DataError(f"{shards[0]}: {len(shards)} of {count} shards of the {split} split are there")
    if len(shards) > 1 and not count and sorted(numbers) != list(range(min(numbers), min(numbers) + len(shards))):
        raise DataError(f"{shards[0]}: shards of the {split} split are missing; there are {sorted(numbers)[:9]}")
    return [shard for _, shard in sorted(zip(numbers, shards, strict=True))] if numbers else shards

"""A folder of images as a person sees it, with a count of what is passed over."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.data.images import DataError

EXTENSIONS = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf"),
        *(".jpg", ".jpx", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    )
)
SYSTEM_FOLDERS = frozenset(
    (
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "__macosx",
        "__pycache__",
        "lost+found",
        "network trash folder",
        "system volume information",
        "temporary items",
    )
)


@dataclass
class Folder:
    """A folder and what lies in it.

    Attributes:
        path: of the folder.
        images: names of the images that lie in it, sorted.
        folders: the folders in it that hold images at any depth, sorted by name.
        passed: what is passed over at any depth, by kind: `hidden folders`, `.txt files`.
        empty: names of the folders in it that hold no image.
    """

    path: Path
    images: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name as it is shown: composed, and with bytes that are no UTF-8 escaped."""
        return unicodedata.normalize("NFC", printable(self.path.name))

    def files(self) -> list[str]:
        """The images at any depth, in the order of their paths."""
        return [str(self.path.joinpath(*parts)) for parts in sorted(self.parts())]

    def count(self) -> int:
        """Number of images at any depth."""
        return len(self.images) + sum(folder.count() for folder in self.folders)

    def parts(self) -> Iterator[tuple[str, ...]]:
        """Yield the path of every image below this folder, part by part."""
        yield from ((name,) for name in self.images)
        for folder in self.folders:
            yield from ((folder.path.name, *parts) for parts in folder.parts())


def printable(text: str) -> str:
    """The text with bytes that are no UTF-8 as escapes, so that it can be written anywhere."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def scan(path: Path) -> Folder:
    """Look through a folder at every depth; nothing is opened.

    Hidden files and folders and those of systems and file servers are passed over. Links are followed, but for those
    that lead back; a broken link that is named as an image is one, which cannot be read.

    Raises:
        DataError: a folder cannot be read.
    """
    return _scan(path, frozenset())


def _scan(path: Path, above: frozenset[tuple[int, int]]) -> Folder:
    found = Folder(path)
    try:
        own = path.stat()
        with os.scandir(path) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None
    above |= {(own.st_dev, own.st_ino)}
    for entry in entries:
        if entry.is_dir():
            _add_folder(found, entry, above)
        elif entry.name.startswith("."):
            found.passed["hidden files"] += 1
        elif is_image_name(entry.name) and (entry.is_file() or entry.is_symlink()):
            found.images.append(entry.name)
        else:
            found.passed[f"{Path(entry.name).suffix.lower()} files".lstrip()] += 1
    return found


def _add_folder(found: Folder, entry: os.DirEntry[str], above: frozenset[tuple[int, int]]) -> None:
    if entry.name.startswith("."):
        found.passed["hidden folders"] += 1
    elif entry.name.lower() in SYSTEM_FOLDERS:
        found.passed["system folders"] += 1
    elif entry.is_symlink() and (entry.stat().st_dev, entry.stat().st_ino) in above:
        found.passed["links to a folder above"] += 1
    else:
        inner = _scan(Path(entry.path), above)
        found.passed += inner.passed
        if inner.images or inner.folders:
            found.folders.append(inner)
        else:
            found.empty.append(inner.name)


def is_image_name(name: str) -> bool:
    """Return whether a file is an image, by its ending."""
    return Path(name).suffix.lower() in EXTENSIONS

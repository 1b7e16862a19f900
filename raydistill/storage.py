"""Storage: a path of this machine, or a folder behind `pyarrow.fs` (s3://, gs://, hdfs://, ...).

`to_path` gives a `pathlib.Path` or a `Remote`, which has the part of its interface that this software uses.
Credentials and endpoints come from the environment, as Arrow reads them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import posixpath
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from raydistill.config import ConfigError
from raydistill.locks import hold_lock
from raydistill.redaction import HIDDEN, redact

log = logging.getLogger(__name__)
CACHE = "RAYDISTILL_CACHE"
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # at most, before an operation that failed is tried again
LOCK_TIMEOUT_S = 24 * 3600.0  # what is downloaded, or made from many images, may take hours
GCS_RETRY_S = 20
MAX_REASON_LENGTH = 300  # characters
_FINAL = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "PERMISSION_DENIED")
_HERE = "file://"
T = TypeVar("T")


class StorageError(ConfigError):
    """A storage cannot be used; the message names it."""


# docs/architecture.md#storage-paths
class Remote:
    """A file or folder behind `pyarrow.fs`. Writing an object is atomic on object stores; folders need no making.

    Raises: StorageError for an address that Arrow does not know; OSError when the storage refuses.
    """

    def __init__(self, uri: str) -> None:
        scheme, colon, rest = uri.partition("://")
        path, mark, self._query = rest.partition("?")
        if HIDDEN in uri or redact(uri) != uri:
            raise StorageError(f"storage {scheme}://...: give credentials by the environment, not in the address")
        if not (scheme and colon and path.strip("/")):
            raise StorageError(f"storage {uri!r}: expected an address such as s3://bucket/folder")
        self._scheme, self._path, self._mark = scheme, posixpath.normpath(path), mark

    def __str__(self) -> str:
        return f"{self._scheme}://{self._path}{self._mark}{self._query}"

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: Remote) -> bool:
        return self._path < other._path

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Remote, (str(self),)

    def __truediv__(self, part: str | Path) -> Remote:
        return self._at(f"{self._path}/{part}")

    @property
    def name(self) -> str:
        return posixpath.basename(self._path)

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> Remote:
        return self._at(posixpath.dirname(self._path) or self._path)

    def with_suffix(self, suffix: str) -> Remote:
        return self._at(posixpath.splitext(self._path)[0] + suffix)

    def absolute(self) -> Remote:
        return self

    def probe(self) -> None:
        """Ask the storage once. Raises StorageError, without retries, when it does not answer or refuses."""
        try:
            self._files.get_file_info(self._inside)
        except (OSError, NotImplementedError) as error:
            raise StorageError(f"storage {self} does not answer ({_line(error)})") from None

    def exists(self) -> bool:
        return self._info() != "NotFound"

    def is_file(self) -> bool:
        return self._info() == "File"

    def is_dir(self) -> bool:
        return self._info() == "Directory"

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: files bring their folders."""

    def read_bytes(self) -> bytes:
        def read() -> bytes:
            with self._files.open_input_stream(self._inside) as stream:
                return bytes(stream.read())

        return _retry(read)

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, payload: bytes) -> None:
        def write() -> None:
            with self._files.open_output_stream(self._inside) as stream:
                stream.write(payload)

        _retry(write)

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            _retry(lambda: self._files.delete_file(self._inside))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_folder(self) -> None:
        _retry(lambda: self._files.delete_dir(self._inside))

    def glob(self, pattern: str) -> list[Remote]:
        """List what matches below; `*` matches within one part of a path."""
        return [self / path for path, _ in self._below() if _matches(path, pattern)]

    def iterdir(self) -> Iterator[Remote]:
        from pyarrow import fs

        selector = fs.FileSelector(self._inside, allow_not_found=True)
        found = _retry(lambda: self._files.get_file_info(selector))
        return iter(sorted(self / info.base_name for info in found))

    def sizes(self, pattern: str) -> dict[str, int]:
        """Bytes of the files that match, by their path below."""
        return {path: size for path, size in self._below() if _matches(path, pattern)}

    def stat(self) -> SimpleNamespace:
        """`st_size` in bytes, `st_mtime` in seconds since 1970. Raises: FileNotFoundError."""
        info = _retry(lambda: self._files.get_file_info(self._inside))
        if not info.is_file:
            raise FileNotFoundError(f"{self} does not exist")
        return SimpleNamespace(st_size=info.size, st_mtime=(info.mtime_ns or 0) / 1e9)

    def fetch(self, target: Path) -> None:
        """Copy the file, or all files of the folder, to `target`."""
        from pyarrow import fs

        (target if self.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
        fs.copy_files(
            self._inside, str(target), source_filesystem=self._files, destination_filesystem=fs.LocalFileSystem()
        )

    def upload(self, source: Path) -> None:
        """Copy the file, or all files of the folder, `source` here."""
        from pyarrow import fs

        fs.copy_files(
            str(source), self._inside, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._files
        )

    def fingerprint(self) -> str:
        """Tells one state of the file or folder from another by names and sizes and times."""
        from pyarrow import fs

        wanted: Any = fs.FileSelector(self._inside, recursive=True) if self.is_dir() else [self._inside]
        listed = sorted((i.path, i.size, i.mtime_ns) for i in self._files.get_file_info(wanted) if i.is_file)
        return hashlib.sha256(repr((self._scheme, listed)).encode()).hexdigest()[:16]

    def _at(self, path: str) -> Remote:
        return Remote(f"{self._scheme}://{path}{self._mark}{self._query}")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import ArrowInvalid, fs

        try:
            if self._scheme in ("gs", "gcs") and not self._query:
                # By itself it goes on trying for a quarter of an hour.
                return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=GCS_RETRY_S)), self._path
            files, path = fs.FileSystem.from_uri(str(self))
        except (ArrowInvalid, ValueError, OSError, NotImplementedError) as error:
            raise StorageError(f"storage {self}: {_line(error)}") from None
        return files, path

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _inside(self) -> str:
        return self._opened[1]

    def _info(self) -> str:
        return str(_retry(lambda: self._files.get_file_info(self._inside)).type.name)

    def _below(self) -> list[tuple[str, int]]:
        from pyarrow import fs

        selector = fs.FileSelector(self._inside, recursive=True, allow_not_found=True)
        start = len(self._inside.rstrip("/")) + 1
        found = _retry(lambda: self._files.get_file_info(selector))
        return sorted((info.path[start:], info.size) for info in found if info.is_file)


StoragePath = Path | Remote


def is_remote(text: str) -> bool:
    return "://" in text and not text.startswith(_HERE)


def to_path(text: str | StoragePath) -> StoragePath:
    """A path, or what an address with a scheme names. Raises: StorageError."""
    if isinstance(text, Remote | Path):
        return text
    return Remote(text) if is_remote(text) else Path(text.removeprefix(_HERE))


def cache_folder() -> Path:
    """Folder for local copies: RAYDISTILL_CACHE, else `raydistill` in the user's cache folder."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raydistill"


def sizes(folder: StoragePath, pattern: str) -> dict[str, int]:
    """Bytes of the files below that match, by their path below; files that go meanwhile are left out."""
    if isinstance(folder, Remote):
        return folder.sizes(pattern)
    found = {}
    for path in folder.glob(pattern):
        with suppress(OSError):
            found[str(path.relative_to(folder))] = path.stat().st_size
    return found


def local_copy(remote: Remote) -> Path:
    """A copy on this machine, made once for each state of the remote; others that want it wait.

    Raises: StorageError when there is nothing, or the storage refuses; LockHeldError.
    """
    try:
        if not remote.exists():
            raise StorageError(f"{remote} does not exist")
        target = cache_folder() / "copies" / remote.fingerprint() / remote.name
        with hold_lock(target.parent.with_suffix(".lock"), LOCK_TIMEOUT_S):
            if not target.exists():
                temporary = target.parent.with_name(f".{target.parent.name}.{os.getpid()}")
                shutil.rmtree(temporary, ignore_errors=True)
                remote.fetch(temporary / target.name)
                temporary.rename(target.parent)
    except OSError as error:
        raise StorageError(f"{remote} cannot be read ({reason(error)})") from error
    return target


def reason(error: OSError) -> str:
    """Cause of an error in one line; Arrow's errors have no `strerror`."""
    return error.strerror or _line(error)


def _retry(action: Callable[[], T], *, draw: Callable[[], float] = random.random) -> T:
    """Try again for a minute when the storage does not answer; not when it says no.

    Args:
        action: what to do.
        draw: a number between 0 and 1, by which each pause is made shorter, down to half: many workers that were
            refused at the same moment come back at different ones.
    """
    for longest_s in PAUSES_S:
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:
            if any(sign in str(error) for sign in _FINAL):
                raise
            pause_s = longest_s * (1 - draw() / 2)
            log.warning("storage does not answer, trying again in %.1f s (%s)", pause_s, _line(error))
        time.sleep(pause_s)
    return action()


def _line(error: BaseException) -> str:
    return redact(" ".join(str(error).split()))[:MAX_REASON_LENGTH]


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))

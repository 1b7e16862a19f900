"""The store of artifacts: things made once and found again by the hash of what they were made from.

One folder per artifact, `KIND/KEY/`, with its files and `artifact.json` (what it was made from, when, its
size). It is made in a temporary folder under a lock and renamed, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.errors import RaydistillError
from raydistill.locks import hold_lock
from raydistill.storage import LOCK_TIMEOUT_S, Remote, StoragePath, cache_folder, reason

log = logging.getLogger(__name__)

KINDS = ("teacher", "bank", "labels")
MANIFEST = "artifact.json"
CARD = "card.json"  # of a teacher: the epochs that it was trained for, and its last validation scores
KEY_LENGTH = 16
SECONDS_BETWEEN_TOUCHES = 3600.0


class ArtifactError(RaydistillError, ValueError):
    """An artifact is missing, damaged or cannot be written; the message names it."""


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact: `created` and `used` in seconds since 1970, `size` in bytes."""

    kind: str
    key: str
    path: StoragePath
    size: int
    created: float
    used: float
    provenance: dict[str, Any]


def key_of(kind: str, provenance: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of kind and content, independent of the keys' order."""
    text = json.dumps([kind, provenance], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class Store:
    """Store of artifacts in a folder of this machine.

    Args:
        root: its folder, created when first written to.
        limit_gib: after making something, the artifacts longest unused are removed until all fit.
    """

    def __init__(self, root: Path, limit_gib: float | None = None) -> None:
        self.root = root
        self.limit_gib = limit_gib
        self.shown = str(root)

    def find(self, kind: str, provenance: Mapping[str, Any]) -> Path | None:
        """The folder of what was made of `provenance`, noted as used now; None if it was never made."""
        return self.by_key(kind, key_of(kind, provenance))

    def open(self, key: str) -> Path:
        """The folder of the artifact called `key`, or by its first digits. Raises ArtifactError."""
        found = [entry for entry in self.entries() if key and entry.key.startswith(key)]
        if len(found) != 1:
            what = "is not in" if not found else "is not unique in"
            raise ArtifactError(f"artifact {key!r} {what} {self.shown}; `raydistill artifacts` lists what there is")
        there = self.by_key(found[0].kind, found[0].key)
        if there is None:
            raise ArtifactError(f"artifact {key!r} has just been removed from {self.shown}")
        return there

    def get(self, kind: str, provenance: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return the artifact's folder; if there is none, `make` fills one, while others that want it wait.

        Args:
            kind: teacher, bank or labels.
            provenance: what it is made from; its hash is the key.
            make: fills a folder.

        Raises:
            ArtifactError: the storage refuses. What `make` raises is raised, and then nothing is left behind.
        """
        key = key_of(kind, provenance)
        if (found := self.by_key(kind, key)) is not None:
            return found
        with self._lock(key):
            if (found := self.by_key(kind, key)) is not None:
                return found
            return self._make(kind, key, provenance, make)

    def entries(self) -> list[StoredArtifact]:
        """All artifacts, the most recently used first."""
        manifests = [path for kind in KINDS for path in self.root.glob(f"{kind}/*/{MANIFEST}")]
        return sorted(filter(None, map(_entry, manifests)), key=lambda entry: -entry.used)

    def remove(self, entry: StoredArtifact) -> None:
        """Delete an artifact. Who has its files open keeps them."""
        with self._lock(entry.key):
            folder = self.root / entry.kind / entry.key
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def prune(self, limit_gib: float, keep: str = "") -> list[StoredArtifact]:
        """Remove the artifacts longest unused until the rest fits in `limit_gib`. Returns: those removed."""
        removed: list[StoredArtifact] = []
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in reversed(entries):
            if total <= limit_gib * 2**30:
                break
            if entry.key != keep:
                self.remove(entry)
                removed.append(entry)
                total -= entry.size
        return removed

    def by_key(self, kind: str, key: str) -> Path | None:
        """The folder of an artifact, noted as used now; None if there is none."""
        path = self.root / kind / key
        try:
            os.utime(path / MANIFEST)
        except OSError:
            return path if (path / MANIFEST).exists() else None
        return path

    def peek(self, kind: str, key: str) -> Path | None:
        """Return an artifact's folder like `by_key`, without noting it as used."""
        path = self.root / kind / key
        return path if (path / MANIFEST).exists() else None

    def _make(self, kind: str, key: str, provenance: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        final = self.root / kind / key
        temporary = self.root / ".making" / f"{key}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            make(temporary)
            size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
            manifest = {"kind": kind, "key": key, "bytes": size, "created": time.time(), "made_of": provenance}
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
            _sync(temporary)
            final.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except OSError as error:
            raise ArtifactError(f"{kind} {key} cannot be written to {self.root} ({error})") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._make_room(key)
        return final

    def _make_room(self, keep: str) -> None:
        if self.limit_gib is not None:
            for entry in self.prune(self.limit_gib, keep=keep):
                log.warning("artifact %s %s was removed to stay within %s GiB", entry.kind, entry.key, self.limit_gib)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(hold_lock(self.root / ".locks" / key, LOCK_TIMEOUT_S))
            except OSError as error:
                raise ArtifactError(f"{self.root} cannot be written ({error.strerror})") from error
            yield


class RemoteStore(Store):
    """A store elsewhere, with copies of what was used in this machine's cache.

    What is made is made here and sent, its manifest last, so that a reader sees all of it or nothing. Two machines
    may make the same artifact at once; it is the same.
    """

    def __init__(self, remote: Remote, limit_gib: float | None = None) -> None:
        name = hashlib.sha256(str(remote).encode()).hexdigest()[:KEY_LENGTH]
        super().__init__(cache_folder() / "artifacts" / name, limit_gib)
        self.remote = remote
        self.shown = str(remote)

    def by_key(self, kind: str, key: str) -> Path | None:
        there = self.remote / kind / key
        if (known := super().peek(kind, key)) is not None:
            last = (known / MANIFEST).stat().st_mtime
            found = super().by_key(kind, key)
            if time.time() - last > SECONDS_BETWEEN_TOUCHES:
                with suppress(OSError):
                    (there / MANIFEST).upload(known / MANIFEST)  # noted as used there, too
            return found
        with self._refused("read"):
            if not (there / MANIFEST).exists():
                return None
            with hold_lock(self.root / ".locks" / f"{key}.fetch", LOCK_TIMEOUT_S):
                if (found := super().by_key(kind, key)) is None:
                    temporary = self.root / ".making" / f"{key}-fetch-{os.getpid()}"
                    shutil.rmtree(temporary, ignore_errors=True)
                    there.fetch(temporary)
                    (self.root / kind).mkdir(parents=True, exist_ok=True)
                    temporary.rename(self.root / kind / key)
        return self.root / kind / key

    def peek(self, kind: str, key: str) -> Path | None:
        return self.by_key(kind, key)

    def entries(self) -> list[StoredArtifact]:
        with self._refused("read"):
            manifests = [path for kind in KINDS for path in self.remote.glob(f"{kind}/*/{MANIFEST}")]
            return sorted(filter(None, map(_entry, manifests)), key=lambda entry: -entry.used)

    def remove(self, entry: StoredArtifact) -> None:
        with self._refused("written"):
            (self.remote / entry.kind / entry.key / MANIFEST).unlink(missing_ok=True)
            (self.remote / entry.kind / entry.key).remove_folder()
        shutil.rmtree(self.root / entry.kind / entry.key, ignore_errors=True)

    def _make(self, kind: str, key: str, provenance: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        limit, self.limit_gib = self.limit_gib, None
        try:
            made = super()._make(kind, key, provenance, make)
        finally:
            self.limit_gib = limit
        try:
            with self._refused("written"):
                for file in made.iterdir():
                    if file.name != MANIFEST:
                        (self.remote / kind / key / file.name).upload(file)
                (self.remote / kind / key / MANIFEST).upload(made / MANIFEST)
        except BaseException:
            # What others cannot find must not pass for made here.
            shutil.rmtree(made, ignore_errors=True)
            raise
        self._make_room(key)
        return made

    @contextmanager
    def _refused(self, what: str) -> Iterator[None]:
        try:
            yield
        except ArtifactError:
            raise
        except OSError as error:
            raise ArtifactError(f"{self.remote} cannot be {what} ({reason(error)})") from error


def open_store(root: StoragePath, limit_gib: float | None = None) -> Store:
    """The store at `root`, of this machine or elsewhere."""
    return RemoteStore(root, limit_gib) if isinstance(root, Remote) else Store(root, limit_gib)


def listing(entries: list[StoredArtifact]) -> str:
    """A table of artifacts for people."""
    if not entries:
        return "no artifacts"
    lines = [f"{'kind':8} {'key':{KEY_LENGTH}} {'MiB':>9}  last used         what"]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        lines.append(f"{entry.kind:8} {entry.key} {entry.size / 2**20:9.2f}  {used}  {_described(entry)}")
    return "\n".join(lines)


def _described(entry: StoredArtifact) -> str:
    made = entry.provenance
    if entry.kind == "bank":
        recipe, draw = made["view"]
        view = f"{recipe} {draw}"
        return f"{made['output']} of teacher {made['teacher']}, view {view}, version {made['version']}"
    if entry.kind == "labels":
        return f"{made['source']['kind']}, {made['source']['clusters']} classes, teacher {made['teacher'] or '-'}"
    if "method" in made:
        most = "at most " if made["train"].get("patience") else ""
        return f"{made['method']['name']} on {made['method']['backbone']}, {most}{made['train']['epochs']} epochs"
    read = [str(made[field]) for field in ("format", "backbone") if made.get(field) not in (None, "auto")]
    return str(made.get("source") or ", ".join(read) or "a run")


def _entry(manifest: StoragePath) -> StoredArtifact | None:
    try:
        content = json.loads(manifest.read_text())
        return StoredArtifact(
            content["kind"],
            content["key"],
            manifest.parent,
            content["bytes"],
            content["created"],
            manifest.stat().st_mtime,
            content["made_of"],
        )
    except (OSError, ValueError, KeyError):
        return None


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())

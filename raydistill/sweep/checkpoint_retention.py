"""Keeps a sweep's checkpoints within a size: the best stay, of each ended trial the newest only."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from raydistill.storage import StoragePath, reason, sizes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _EndedTrial:
    key: str
    score: float | None
    complete: bool


class CheckpointRetention:
    """Told of every trial that ends, makes room; trials it was not told of are running and stay as they are.

    The limit is on `trials/*/epoch-*`. Where it is exceeded, ended trials lose their checkpoint, the worst
    first: failed and stopped ones before complete ones, then by score, and one without a score before any
    with. The best complete trial of each search and `protected` ones never do.

    Args:
        directory: of the sweep.
        limit_gib: None: nothing but older checkpoints of ended trials is deleted.
        goal: maximize or minimize the score.
        protected: keys of finalists, teachers and donors.
    """

    def __init__(
        self,
        directory: StoragePath,
        limit_gib: float | None,
        *,
        goal: Literal["maximize", "minimize"] = "maximize",
        protected: Iterable[str] = (),
    ) -> None:
        self.directory, self.limit_gib = directory, limit_gib
        self.protected = set(protected)
        self._sign = 1 if goal == "maximize" else -1
        self._ended: dict[str, _EndedTrial] = {}
        self._warned = False

    def pin(self, *keys: str) -> None:
        """Keep these from now on, whatever comes."""
        self.protected.update(keys)

    def on_trial_start(self, key: str) -> None:
        """A trial that had ended runs again."""
        self._ended.pop(key, None)

    def on_trial_end(self, key: str, score: float | None, complete: bool, *, make_room: bool = True) -> list[str]:
        """Note a trial's end and make room.

        A file that is already gone, or that the storage will not delete, is passed over; a limit that cannot be held
        is logged, once.

        Args:
            key: the trial.
            score: its last one.
            complete: it got its full budget of epochs.
            make_room: whether to delete for it now.

        Returns:
            The trials whose checkpoints were deleted.
        """
        self._ended[key] = _EndedTrial(key, None if score is None or math.isnan(score) else score, complete)
        self._trim(key)
        return self._make_room() if make_room else []

    def total(self) -> int:
        """Bytes of all checkpoints of the sweep, with those that a population's trials copy from."""
        patterns = ("trials/*/epoch-*", "ray/*/*/checkpoint_*/epoch-*")
        return sum(sum(sizes(self.directory, pattern).values()) for pattern in patterns)

    def _make_room(self) -> list[str]:
        if self.limit_gib is None:
            return []
        limit, total = self.limit_gib * 2**30, self.total()
        removed: list[str] = []
        for trial in self._victims():
            if total <= limit:
                break
            freed = sum(map(_delete, _finished_last(self._files(trial.key))))
            if freed:
                removed.append(trial.key)
                total -= freed
        if total > limit and not self._warned:
            self._warned = True
            log.warning(
                "checkpoints take %.2f GiB, more than the %s GiB allowed: what is left belongs to trials that run, "
                "to the best one, or to those that are still needed",
                total / 2**30,
                self.limit_gib,
            )
        return removed

    def _victims(self) -> list[_EndedTrial]:
        """Ended trials that may be deleted, the worst first."""
        order = sorted(self._ended.values(), key=self._merit)
        best = {_search_of(trial.key): trial.key for trial in order if trial.complete}
        kept = self.protected | set(best.values())
        return [trial for trial in order if trial.key not in kept]

    def _merit(self, trial: _EndedTrial) -> tuple[bool, bool, float]:
        return trial.complete, trial.score is not None, self._sign * (trial.score or 0.0)

    def _trim(self, key: str) -> None:
        """Delete all but the newest finished checkpoint, if there is one."""
        files = self._files(key)
        finished = [path.stem for path in files if path.suffix == ".json"]
        if finished:
            for path in _finished_last([path for path in files if path.stem != max(finished)]):
                _delete(path)

    def _files(self, key: str) -> list[StoragePath]:
        return sorted((self.directory / "trials" / key).glob("epoch-*"))


def _search_of(key: str) -> str:
    """Return the search that a trial belongs to: `t0001` to the sweep's own, `baseline-simclr-t0001` to another."""
    return key.rpartition("-")[0]


def _finished_last(files: Iterable[StoragePath]) -> list[StoragePath]:
    """The JSON files first: a state without its JSON counts as never finished, so a reader never meets half."""
    return sorted(files, key=lambda path: path.suffix != ".json")


def _size(path: StoragePath) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _delete(path: StoragePath) -> int:
    """The bytes freed."""
    size = _size(path)
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("%s cannot be deleted (%s)", path, reason(error))
        return 0
    return size

"""Parquet files that are larger than memory should hold, unpacked once to files that are read in place."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from raydistill.data.images import DataError, state_of
from raydistill.locks import LockHeldError, hold_lock
from raydistill.storage import cache_folder

IN_MEMORY = 2 * 2**30  # bytes of all files of a data set that are held in memory
_ROWS = 256
_LONGEST_S = 24 * 3600.0
log = logging.getLogger(__name__)


def read_in_place(path: Path, columns: Sequence[str]) -> Any:
    """A table that lies on disk: its rows are read when they are asked for, and the system keeps what it can in memory.

    The file is made once for each state of the Parquet file, in Arrow's format, in the cache folder.

    Args:
        path: of the Parquet file, which has rows.
        columns: to keep.

    Raises:
        DataError: there is no room for it.
    """
    import pyarrow as pa

    name, state = _hashed(f"{path.absolute()} {list(columns)}".encode()), _hashed(state_of([path]))
    target = cache_folder() / "unpacked" / f"{name}-{state}.arrow"
    try:
        with hold_lock(target.with_name(f"{name}.lock"), _LONGEST_S):
            if target.exists():
                with suppress(pa.ArrowInvalid):  # damaged
                    return _opened(target)
            log.info("unpacking %s to %s", path, target)
            _unpack(path, columns, target)
            for older in target.parent.glob(f"{name}-*.arrow"):
                if older != target:
                    older.unlink()
            return _opened(target)
    except (OSError, LockHeldError) as error:
        raise DataError(
            f"{path}: cannot be unpacked to {target} ({error}); set RAYDISTILL_CACHE to a folder with room for it"
        ) from error


def _hashed(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _opened(target: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()


def _unpack(path: Path, columns: Sequence[str], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    passing = target.with_suffix(".part")
    try:
        with pq.ParquetFile(path) as file:
            need, free = _bytes(file.metadata, columns), shutil.disk_usage(target.parent).free
            if need > free:
                raise OSError(f"{need / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free")
            batches = file.iter_batches(_ROWS, columns=list(columns))
            first = next(batches)
            with pa.ipc.new_file(str(passing), first.schema) as writer:
                for batch in itertools.chain([first], batches):
                    writer.write_batch(batch)
        with passing.open("rb") as written:
            os.fsync(written.fileno())
        passing.replace(target)
    finally:
        passing.unlink(missing_ok=True)


def _bytes(metadata: Any, columns: Sequence[str]) -> int:
    """Bytes that some columns have, unpacked."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    found = [group.column(place) for group in groups for place in range(group.num_columns)]
    return sum(column.total_uncompressed_size for column in found if column.path_in_schema in columns)

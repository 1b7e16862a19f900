"""Folders that a sweep writes to: by a real write, and how much room they have."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.sweep.preflight.ray_start import ray_folder
from raydistill.training.checkpoint_files import write_atomically

GIB = 2**30
PAYLOAD = os.urandom(2**16)
SHARED = Path("/dev/shm")
# In GiB: a fault below the first, a warning below the second.
LIMITS = {"storage": (1.0, 10.0), "artifacts": (1.0, 10.0), "Ray's folder": (2.0, 10.0), "shared memory": (0.03, 1.0)}
RAY_REFUSES = 0.95  # full: Ray's own limit, beyond which it creates no objects that do not fit into memory


def check_storage(setup: Setup) -> Iterator[CheckResult]:
    yield written("storage", setup.storage)


def check_artifacts(setup: Setup) -> Iterator[CheckResult]:
    yield written("artifacts", setup.artifacts)


def written(name: str, place: str) -> CheckResult:
    """Write a file, sync and rename it, read it back, and delete it."""
    remote = "://" in place
    try:
        same = _write_remote(place) if remote else _write_local(Path(place))
    except Exception as error:  # pyarrow raises nearly anything
        cause = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return CheckResult(name, "fault", f"{place} cannot be written: {cause}", _fix(name, remote, full))
    if not same:
        return CheckResult(name, "fault", f"{place} gives back other bytes than were written", f"another --{name}")
    return CheckResult(name, "ok", f"{place} can be written")


def _fix(name: str, remote: bool, full: bool) -> str:
    if full:
        return f"make room there, or give another folder with --{name}"
    if remote:
        return f"check the bucket's name, its region and the credentials in the environment, or give another --{name}"
    return f"make it a folder of yours (`mkdir -p`, `chown`, `chmod u+rwx`), or give another with --{name}"


def _write_local(folder: Path) -> bool:
    """Write in the folder, or where it would be made; nothing stays."""
    with tempfile.TemporaryDirectory(prefix=".raydistill-doctor-", dir=existing(folder)) as own:
        path = Path(own) / "written"
        write_atomically(path, PAYLOAD)
        return path.read_bytes() == PAYLOAD


def _write_remote(uri: str) -> bool:
    from pyarrow.fs import FileSystem

    system, folder = FileSystem.from_uri(uri)
    own = f"{folder.rstrip('/')}/.raydistill-doctor-{uuid.uuid4().hex}"
    system.create_dir(own, recursive=True)
    try:
        with system.open_output_stream(f"{own}/written") as file:
            file.write(PAYLOAD)
        with system.open_input_stream(f"{own}/written") as file:
            return bool(file.read() == PAYLOAD)
    finally:
        system.delete_dir(own)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there. Raises NotADirectoryError if that is a file."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file, not a folder")
            return place
    return Path(folder.anchor or ".")


def check_disk_storage(setup: Setup) -> Iterator[CheckResult]:
    yield from free("storage", setup.storage)


def check_disk_artifacts(setup: Setup) -> Iterator[CheckResult]:
    yield from free("artifacts", setup.artifacts)


def check_disk_ray(_: Setup) -> Iterator[CheckResult]:
    yield from free("Ray's folder", str(ray_folder()))


def check_disk_shared(_: Setup) -> Iterator[CheckResult]:
    if SHARED.is_dir():
        yield from free("shared memory", str(SHARED))


def free(name: str, place: str) -> Iterator[CheckResult]:
    if "://" in place:
        return
    try:
        folder = existing(Path(place))
    except NotADirectoryError:
        return  # said by the check that writes
    usage = shutil.disk_usage(folder)
    least, low = LIMITS[name]
    found = f"{name}: {usage.free / GIB:.1f} GiB free in {place}"
    fix = FIXES.get(name, f"make room, or give a roomier disk with --{name}")
    if name == "Ray's folder" and usage.used > RAY_REFUSES * (usage.used + usage.free):
        yield CheckResult(
            "free disk", "fault", f"{found}; the disk is over {RAY_REFUSES:.0%} full, where Ray stops", fix
        )
    elif usage.free < least * GIB:
        yield CheckResult("free disk", "fault", f"{found}, wanted at least {least:g}", fix)
    elif usage.free < low * GIB:
        yield CheckResult("free disk", "warning", f"{found}, better {low:g}", fix)
    else:
        yield CheckResult("free disk", "ok", found)


FIXES = {
    "Ray's folder": "make room (old sessions lie in `ray/session_*`), or `export RAY_TMPDIR` to a roomier disk",
    "shared memory": "`mount -o remount,size=8G /dev/shm`; for a container `--shm-size=8g`, in Kubernetes an emptyDir "
    "with `medium: Memory`",
}

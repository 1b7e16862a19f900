"""MLflow as a sweep would use it. Run in a process apart, since it sets variables and MLflow takes its time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from packaging.version import InvalidVersion, Version

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.doctor.checks_storage import existing
from raydistill.doctor.checks_versions import KNOWN
from raydistill.redaction import redact
from raydistill.sweep.preflight.security import direct
from raydistill.tracking import client
from raydistill.training.checkpoint_files import write_atomically

NAME = "MLflow"
PICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
BUSY_SECONDS = 5.0
FLOOR = Version("3.17.2")
FIXES = {
    "http": "start it (`mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000`), or give "
    "its address with --tracking-uri; its name and password go into MLFLOW_TRACKING_USERNAME and _PASSWORD",
    "sqlite": "give a file in a folder of yours, `--tracking-uri sqlite:///mlflow.db`",
    "": "give `--tracking-uri sqlite:///mlflow.db`, or the address of a server, http://HOST:PORT",
}


def check_tracking(setup: Setup) -> Iterator[CheckResult]:
    uri = setup.tracking_uri
    scheme = uri.partition(":")[0].partition("+")[0]
    kind = {"https": "http"}.get(scheme, scheme)
    allowed = os.environ.get(PICKLES, "false").lower()
    if allowed in ("true", "1"):
        yield CheckResult(
            NAME, "warning", f"{PICKLES}={allowed}: a model loaded from MLflow may run code", f"`unset {PICKLES}`"
        )
    database = client.database_of(uri)
    if database is not None:
        fault = _database_fault(database)
        if fault is not None or not database.exists():
            # What is not there yet is not made: connecting would fill it with tables.
            yield fault or CheckResult(NAME, "ok", f"{database} can be made")
            return
    client.LOCK_TIMEOUT_S = BUSY_SECONDS
    try:
        client.connect(uri, client.EXPERIMENT)
    except Exception as error:
        cause = redact(" ".join(str(error).split()))[:300]
        yield CheckResult(NAME, "fault", f"{uri} cannot be used: {cause}", FIXES.get(kind, FIXES[""]))
        return
    yield (kind == "http" and _old_server(uri)) or CheckResult(NAME, "ok", f"{uri} answers")


def _database_fault(path: Path) -> CheckResult | None:
    """Check whether an existing SQLite file, and its folder, can be written by us now."""
    try:
        folder = existing(path.parent)
        probe = folder / f".raydistill-doctor-{os.getpid()}"
        write_atomically(probe, b"doctor")
        probe.unlink()
    except OSError as error:
        return CheckResult(NAME, "fault", f"{path.parent} cannot be written: {error.strerror}", FIXES["sqlite"])
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return CheckResult(
                NAME,
                "fault",
                f"{path} was locked by another process for {BUSY_SECONDS:g} s",
                f"`fuser -v {path}` shows which; end it, or give another file with --tracking-uri",
            )
        return CheckResult(NAME, "fault", f"{path} cannot be opened: {error}", f"move it away, or {FIXES['sqlite']}")
    return None


def _old_server(uri: str) -> CheckResult | None:
    """A warning if the server says that it is below the version with the known fixes."""
    try:
        with direct(f"{uri.rstrip('/')}/version") as answer:
            version = Version(answer.read(100).decode())
    except (OSError, ValueError, InvalidVersion):
        return None
    if version >= FLOOR:
        return None
    return CheckResult(
        NAME,
        "warning",
        f"the server at {uri} is MLflow {version} ({KNOWN['mlflow']})",
        f"pip install 'mlflow>={FLOOR}' there",
    )

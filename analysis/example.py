"""The stored sweeps in an MLflow of their own, for the notebooks."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from raydistill.locks import hold_lock
from raydistill.tracking.backfill import backfill

HERE = Path(__file__).parent
SWEEPS = HERE / "sweeps"
FILLING_LIMIT_S = 600.0


def stored() -> str:
    """The tracking address of an MLflow that holds the sweeps of `sweeps/`.

    It is told of them on first use, which takes half a minute, and again when their files have changed.
    """
    database, note = HERE / "mlflow.db", HERE / "mlflow.db.sweeps"
    uri, state = f"sqlite:///{database}", _state()
    with hold_lock(HERE / "mlflow.db.sweeps.lock", FILLING_LIMIT_S):
        if not note.exists() or note.read_text() != state:
            shutil.rmtree(HERE / "mlartifacts", ignore_errors=True)
            database.unlink(missing_ok=True)
            for folder in sorted(SWEEPS.iterdir()):
                backfill(folder, uri)
            note.write_text(state)
    return uri


def _state() -> str:
    """Tells one state of the stored sweeps from another."""
    files = sorted(path for path in SWEEPS.rglob("*") if path.is_file())
    content = [(str(path.relative_to(SWEEPS)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return hashlib.sha256(repr(content).encode()).hexdigest()

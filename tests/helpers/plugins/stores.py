"""Pytest plugin that copies the tables of new SQLite stores: MLflow's migrations take seconds for each.

MLflow itself creates the first store of a process; later ones get its pages. Only the tests' own process does so:
commands and servers that tests launch, such as those of tests/tracking/test_tracking_lock.py, create their stores.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

MODULE, FUNCTION = "mlflow.store.db.utils", "_initialize_tables"


class CopiedTables:
    """Stands for MLflow's function that fills a new database; `create` is that function."""

    def __init__(self, create: Callable[[Any], None]) -> None:
        self.create = create
        self._kept: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __call__(self, engine: Any) -> None:
        if engine.dialect.name != "sqlite" or engine.url.database in (None, "", ":memory:"):
            self.create(engine)
            return
        with self._lock, closing(engine.raw_connection()) as opened:
            connection = opened.driver_connection
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                self.create(engine)
            elif self._kept is not None:
                self._kept.backup(connection)
            else:
                self.create(engine)
                kept = sqlite3.connect(":memory:", check_same_thread=False)
                connection.backup(kept)
                self._kept = kept


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Take the function's place as soon as a test has imported MLflow, which takes seconds too."""
    utils = sys.modules.get(MODULE)
    if utils is not None and not isinstance(getattr(utils, FUNCTION), CopiedTables):
        setattr(utils, FUNCTION, CopiedTables(getattr(utils, FUNCTION)))

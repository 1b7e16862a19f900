"""The tests' plugin that copies the tables of new stores gives what MLflow's own migrations give."""

import importlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.plugins.stores import FUNCTION, MODULE, CopiedTables

from raydistill.tracking.client import connect, find_experiment


def tables(path: Path) -> tuple[list[str], str]:
    """Every statement that makes a database's content, and its journal's mode."""
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump()), database.execute("PRAGMA journal_mode").fetchone()[0]


def unordered(statements: list[str]) -> list[str]:
    """The lines of statements; migrations write constraints and indices in the order of a set."""
    return sorted(line.strip().removesuffix(",") for statement in statements for line in statement.splitlines())


def engine(path: Path) -> Any:
    import sqlalchemy

    return sqlalchemy.create_engine(f"sqlite:///{path}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def copied(folder: Path) -> CopiedTables:
    """Tables of which `created.db` is the first."""
    found = getattr(importlib.import_module(MODULE), FUNCTION)
    copied = CopiedTables(found.create if isinstance(found, CopiedTables) else found)
    copied(engine(folder / "created.db"))
    return copied


@pytest.mark.slow
def test_a_copy_is_what_mlflow_creates(copied: CopiedTables, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = copied.create
    monkeypatch.setattr(copied, "create", lambda engine: pytest.fail("it is copied"))
    copied(engine(folder / "copied.db"))
    create(engine(folder / "alone.db"))
    (here, mode), (alone, mode_alone) = (tables(folder / name) for name in ("copied.db", "alone.db"))
    assert any("alembic_version" in statement for statement in here)
    assert (unordered(here), mode) == (unordered(alone), mode_alone)
    assert (here, mode) == tables(folder / "created.db")


@pytest.mark.slow
def test_stores_are_apart_and_a_database_with_tables_is_left_to_mlflow(
    copied: CopiedTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.{FUNCTION}", copied)
    addresses = [f"sqlite:///{tmp_path / name}.db" for name in ("first", "second")]
    clients = [connect(address, "raydistill") for address in addresses]
    assert find_experiment(clients[0], addresses[0], "raydistill") == "1"
    assert clients[1].get_experiment_by_name("raydistill") is None
    left = []
    monkeypatch.setattr(copied, "create", left.append)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    copied(engine(tmp_path / "other.db"))
    assert len(left) == 1

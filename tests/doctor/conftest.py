"""A fixture of all tests of the doctor."""

import os

import pytest


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    """No cluster, token, tracking server or folder of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("RAY_", "MLFLOW_")):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))

"""A fixture of all tests of the doctor."""

import os
import tempfile

import pytest


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    """No cluster, token, tracking server or folder of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("RAY_", "MLFLOW_")):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as short:  # sockets allow no long paths
        monkeypatch.setenv("RAY_TMPDIR", short)
        yield

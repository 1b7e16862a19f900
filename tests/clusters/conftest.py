"""A fixture of all tests of the files in clusters/."""

import pytest
from helpers.cluster_files import ROOT


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Paths in the files are those of a clone's root."""
    monkeypatch.chdir(ROOT)

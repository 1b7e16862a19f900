"""An installed wheel has every file of the package, and the search spaces, which are beside it in a clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from raydistill.records.locations import SHIPPED
from raydistill.sweep.search.space import default_space

ROOT = Path(__file__).parents[1]
SOURCES = ("raydistill", "search_spaces")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
LOOK_UP = """
from raydistill.sweep.search.space import default_space, paper_space
for path in (default_space("seed"), paper_space("dogo")):
    print(path)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as pip makes it of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    clone, site = folder / "clone", folder / "site"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in SOURCES:
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_has_every_file(site):
    wanted = {path for path in files(ROOT / "raydistill") if "__pycache__" not in path}
    assert files(site / "raydistill") == wanted | {f"search_spaces/{name}" for name in files(ROOT / "search_spaces")}


def test_it_finds_its_search_spaces(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shipped = site / "raydistill" / "search_spaces"
    assert done.stdout.splitlines() == [str(shipped / "seed.yaml"), str(shipped / "dogo-paper.yaml")]


def test_a_clone_finds_its_own():
    assert default_space("seed").parent == SHIPPED == ROOT / "search_spaces"

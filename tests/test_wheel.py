"""Distributions: the wheel has every file of the package and the search spaces, and the sdist builds the same wheel."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from helpers.commands import run

from raydistill import __version__
from raydistill.records.locations import SHIPPED
from raydistill.sweep.search.space import default_space

ROOT = Path(__file__).parents[1]
SOURCES = ("raydistill", "search_spaces")
FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "constraints.txt")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
LOOK_UP = """
from raydistill.sweep.search.space import default_space, paper_space
for path in (default_space("seed"), paper_space("dogo")):
    print(path)
"""


def python(*arguments, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What is built, so that no build leaves files in this folder; with tests, which an sdist leaves out."""
    clone = tmp_path_factory.mktemp("sources") / "clone"
    for name in SOURCES:
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "sweep.py"):
        shutil.copy(ROOT / name, clone)
    (clone / "tests").mkdir()
    shutil.copy(__file__, clone / "tests")
    return clone


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    """The wheel of a clone."""
    folder = tmp_path_factory.mktemp("wheel")
    python("-c", BUILD, folder, cwd=clone)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder as pip makes it of the wheel."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture(scope="module")
def released(clone, wheel, tmp_path_factory):
    """An sdist, and the wheel that is built from it, as they would be uploaded."""
    folder = tmp_path_factory.mktemp("released")
    python("-m", "build", "--no-isolation", "--outdir", folder, clone, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def packed(sdist):
    """The files of an sdist below its one folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def test_it_has_every_file(site):
    wanted = {path for path in files(ROOT / "raydistill") if "__pycache__" not in path}
    assert files(site / "raydistill") == wanted | {f"search_spaces/{name}" for name in files(ROOT / "search_spaces")}


def test_it_finds_its_search_spaces(site, tmp_path):
    shipped = site / "raydistill" / "search_spaces"
    told = python("-c", LOOK_UP, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert told == [str(shipped / "seed.yaml"), str(shipped / "dogo-paper.yaml")]


def test_a_clone_finds_its_own():
    assert default_space("seed").parent == SHIPPED == ROOT / "search_spaces"


def test_an_sdist_has_what_a_wheel_is_built_from_and_no_tests(released):
    found = packed(released[0])
    sources = {f"{name}/{path}" for name in SOURCES for path in files(ROOT / name) if "__pycache__" not in path}
    assert found >= sources | set(FILES) | {"sweep.py"}
    assert not {path for path in found if path.startswith("tests/")}


def test_an_sdist_builds_the_wheel_that_a_clone_builds(wheel, released):
    names, again = (sorted(zipfile.ZipFile(each).namelist()) for each in (wheel, released[1]))
    assert names == again


def test_an_index_would_take_both(released, tmp_path):
    told = python("-m", "twine", "--no-color", "check", "--strict", *released, cwd=tmp_path)
    assert told.count("PASSED") == 2


def test_its_metadata_describe_the_package(site):
    (folder,) = site.glob("*.dist-info")
    told = email.message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    assert told["Name"] == "raydistill"
    assert told["License-Expression"] == "MIT"
    assert (folder / "licenses" / told["License-File"]).read_text() == (ROOT / "LICENSE").read_text()
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().strip().startswith("# raydistill")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Keywords"]
    assert "Programming Language :: Python :: 3.11" in told.get_all("Classifier")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(told.get_all("Provides-Extra")) == set(declared["optional-dependencies"])


def test_the_version_is_the_same_everywhere(site, released, tmp_path):
    (folder,) = site.glob("*.dist-info")
    assert folder.name == f"raydistill-{__version__}.dist-info"
    assert re.findall(r"^Version: (.*)$", (folder / "METADATA").read_text(encoding="utf-8"), re.M) == [__version__]
    assert [path.name.split("-")[1].removesuffix(".tar.gz") for path in released] == [__version__] * 2
    assert run("--version", cwd=tmp_path).stdout == f"raydistill {__version__}\n"

"""A method has one name on every shelf: options, code, presets, search space, page and tests."""

from pathlib import Path

import pytest

from raydistill.options import METHODS, find

ROOT = Path(__file__).parents[1]
METHODS_OF_PAPERS = {"dogo", "sdssl", "seed", "simreg", "sssd"}
HYBRIDS = {"seed_blocks", "simreg_exits"}  # join two papers
OF_PAPER = "-paper"  # ends the name of a second search space
OF_ALL_METHODS = {
    "base",
    "conformance",
    "evaluation",
    "momentum",
    "presets",
    "README",
}  # files of a shelf that belong to no single method


def names(folder, pattern):
    """The methods that a folder has a file for; underscored modules are helpers of several."""
    found = {path.stem.removeprefix("test_") for path in (ROOT / folder).glob(pattern) if path.stem[0] != "_"}
    return {name for name in found if not name.endswith(OF_PAPER)} - OF_ALL_METHODS


def test_there_are_twenty_methods():
    assert len(METHODS) == 20
    assert set(METHODS) > METHODS_OF_PAPERS | HYBRIDS


@pytest.mark.parametrize(("folder", "suffix"), [("raydistill/presets", "yaml"), ("search_spaces", "yaml")])
def test_flat_shelves_have_every_method(folder, suffix):
    assert names(folder, f"*.{suffix}") == set(METHODS)


def test_every_method_of_a_paper_has_a_space_with_its_axes():
    found = {path.stem.removesuffix(OF_PAPER) for path in (ROOT / "search_spaces").glob(f"*{OF_PAPER}.yaml")}
    assert found == METHODS_OF_PAPERS


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("raydistill/options", "*.py"),
        ("raydistill/methods", "*.py"),
        ("docs/methods", "*.md"),
        ("tests/methods", "*.py"),
    ],
)
def test_shelves_with_folders_of_baselines_and_hybrids_have_every_method(folder, pattern):
    assert names(folder, pattern) == METHODS_OF_PAPERS
    assert names(f"{folder}/hybrids", pattern) == HYBRIDS
    assert names(f"{folder}/baselines", pattern) == set(METHODS) - METHODS_OF_PAPERS - HYBRIDS


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_and_the_options_name_the_modules_of_the_shelves(name):
    folder = "hybrids." if name in HYBRIDS else "baselines."
    shelf = name if name in METHODS_OF_PAPERS else folder + name
    assert METHODS[name].split(":")[0] == f"raydistill.options.{shelf}"
    assert find(name).implementation.split(":")[0] == f"raydistill.methods.{shelf}"

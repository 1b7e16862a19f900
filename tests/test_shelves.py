"""Every method has one name on every shelf: options, code, presets, search space, page and tests."""

from pathlib import Path

import pytest

from raydistill.options import METHODS

ROOT = Path(__file__).parents[1]
NO_METHOD = {"base", "README", "conformance", "presets", "refusals"}
SHELVES = {
    "raydistill/options": "*.py",
    "raydistill/methods": "*.py",
    "raydistill/presets": "*.yaml",
    "search_spaces": "*.yaml",
    "docs/methods": "*.md",
    "tests/methods": "test_*.py",
}


def names(shelf, pattern):
    found = {path.stem.removeprefix("test_"): path for path in (ROOT / shelf).rglob(pattern)}
    return {name: path for name, path in found.items() if name not in NO_METHOD and not name.startswith("_")}


@pytest.mark.parametrize(("shelf", "pattern"), SHELVES.items())
def test_a_shelf_has_every_method_by_its_name(shelf, pattern):
    assert set(names(shelf, pattern)) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_baselines_are_in_the_same_sub_folder_on_every_shelf(method):
    python = [names(shelf, pattern)[method].parent.name for shelf, pattern in SHELVES.items() if pattern != "*.yaml"]
    assert len({folder == "baselines" for folder in python}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_options_and_code_are_found_by_the_methods_name(method):
    module = names("raydistill/options", "*.py")[method].relative_to(ROOT).with_suffix("")
    assert METHODS[method].partition(":")[0] == ".".join(module.parts)

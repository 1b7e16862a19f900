"""The pages of the methods: every option is there as declared, and what they tell to type is known."""

import re
import runpy
from pathlib import Path

import pytest

from raydistill import config
from raydistill.options import METHODS
from raydistill.presets import preset_names

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "methods").rglob("*.md")), DOCS / "settings.md"]
TEXTS = [*PAGES[:-1], *sorted(DOCS.glob("*.md")), DOCS.parent / "README.md", DOCS.parent / "SECURITY.md"]
options = runpy.run_path(str(DOCS / "options.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS.parent)))
def test_tables_are_as_the_options_declare_them(page):
    text = page.read_text()
    assert options["updated"](text) == text, "run `python docs/options.py`"


def test_every_method_has_its_options_on_a_page():
    shown = {name for page in PAGES for name in re.findall(r"<!-- options: (\w+) -->", page.read_text())}
    assert shown == set(METHODS)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(DOCS.parent)))
def test_settings_and_presets_that_are_named_exist(page):
    text = page.read_text()
    known = {path for method in METHODS for path in config.paths(method)}
    for path in re.findall(r"\b((?:method|data|teacher|train|eval)\.[a-z_]+)\b", text):
        assert path in known or path.endswith((".yaml", ".md")), path
    for method in re.findall(r"--method (\w+)", text):
        assert method in {*METHODS, "METHOD", "NAME"}, method
    for method, preset in re.findall(r"--method (\w+) --preset (\w+)", text):
        assert preset in preset_names(method)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(DOCS.parent)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_fault_is_in_the_table_with_the_files_that_test_it():
    marked = {}
    for file in Path(__file__).parents[1].rglob("test_*.py"):
        for row in re.findall(r"@pytest\.mark\.fault\((\d+)\)", file.read_text()):
            marked.setdefault(int(row), set()).add(file.stem.removeprefix("test_"))
    table = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", (DOCS / "faults.md").read_text(), re.MULTILINE)
    assert {int(row): set(re.findall(r"`(\w+)`", files)) for row, files in table} == marked
    assert set(marked) == set(range(1, 25))

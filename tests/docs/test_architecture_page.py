"""docs/architecture.md: each decision is linked from the code that it governs, and no link is broken."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
FILES = sorted(path for folder in ("raydistill", "tests") for path in (ROOT / folder).rglob("*.py"))
LINK = re.compile(r"docs/architecture\.md#([\w-]+)")


def anchor(heading):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(marks):
    return [anchor(heading) for heading in re.findall(rf"^{marks} (.+)$", PAGE, re.MULTILINE)]


def links():
    return [(path, name) for path in FILES if path != Path(__file__) for name in LINK.findall(path.read_text())]


def test_headings_are_unique():
    every = headings("#{1,3}")
    assert len(every) == len(set(every))


def test_every_link_in_the_code_leads_to_a_section():
    broken = [f"{path.relative_to(ROOT)}: {name}" for path, name in links() if name not in headings("###")]
    assert not broken


@pytest.mark.parametrize("section", headings("###"))
def test_every_section_is_linked_from_the_code(section):
    assert section in {name for _, name in links()}


@pytest.mark.parametrize("section", headings("###"))
def test_a_section_is_short(section):
    pieces = re.split(r"^#{1,3} (.+)\n", PAGE, flags=re.MULTILINE)
    (text,) = (body for heading, body in zip(pieces[1::2], pieces[2::2], strict=True) if anchor(heading) == section)
    assert 2 <= len(re.findall(r"[.:](?:\s|$)", text)) <= 10
    assert len(text.split()) <= 140


def test_the_map_shows_every_part_of_the_package():
    (tree,) = re.findall(r"```\nraydistill/\n(.*?)```", PAGE, re.DOTALL)
    shown = set(re.findall(r"^  ([\w.]+)/? ", tree, re.MULTILINE))
    parts = {path.name for path in (ROOT / "raydistill").iterdir() if path.suffix == ".py"}
    parts |= {path.parent.name for path in (ROOT / "raydistill").glob("*/__init__.py")}
    assert parts - {"__main__.py"} <= shown

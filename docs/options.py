"""Writes the tables of settings into docs/methods/*.md and docs/settings.md, from their own declarations.

python docs/options.py          # rewrite what stands between the markers
"""

from __future__ import annotations

import re
import typing
from pathlib import Path

from pydantic import BaseModel

from raydistill.config import Config
from raydistill.options import find

HERE = Path(__file__).parent
PAGES = [*sorted((HERE / "methods").rglob("*.md")), HERE / "settings.md"]
MARK = re.compile(r"(<!-- (options|section): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(section: type[BaseModel]) -> str:
    """Markdown: every setting of a section, its default, what it accepts or does."""
    lines = ["| option | default | |", "|---|---|---|"]
    for name, field in section.model_fields.items():
        if name != "name":
            lines.append(f"| `{name}` | `{shown(field.default)}` | {meaning(field.annotation, field.description)} |")
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    """As one would type it after --set."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def meaning(annotation: object, description: str | None) -> str:
    """The description, and the choices where there are few."""
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    listed = " or ".join(f"`{choice}`" for choice in choices) if 0 < len(choices) <= 7 else ""
    return ": ".join(filter(None, [listed, description]))


def updated(text: str) -> str:
    """A page with its tables written anew."""

    def write(found: re.Match[str]) -> str:
        section = find(found[3]) if found[2] == "options" else Config.model_fields[found[3]].annotation
        return found[1] + table(typing.cast(type[BaseModel], section)) + found[4]

    return MARK.sub(write, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text()))

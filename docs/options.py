"""Writes the tables of options into docs/methods/*.md, from the options' own declarations.

python docs/options.py          # rewrite what stands between the markers
"""

from __future__ import annotations

import re
import typing
from pathlib import Path

from raydistill.options import find

PAGES = Path(__file__).parent / "methods"
MARK = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(method: str) -> str:
    """Markdown: every option of a method, its default, what it accepts or does."""
    lines = ["| option | default | |", "|---|---|---|"]
    for name, field in find(method).model_fields.items():
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
    return MARK.sub(lambda found: found[1] + table(found[2]) + found[3], text)


if __name__ == "__main__":
    for page in sorted(PAGES.glob("*.md")):
        page.write_text(updated(page.read_text()))

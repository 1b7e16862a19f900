"""A figure as SVG inside a page: text as text, names that do not clash, nothing fetched from elsewhere.

What `figures.style.say` gave a point or a line becomes its title, which browsers show where a pointer rests.
"""

from __future__ import annotations

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from raydistill.report.figures.style import HOVER

DIGITS = 2  # of a coordinate, in points
NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Return the `<svg>` element of a figure.

    Args:
        figure: a figure of matplotlib.
        name: begins every id within it, so that several figures can share a page.
        label: what a screen reader says.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=NOTHING)
    text = file.getvalue()
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>\s*", "", text, flags=re.DOTALL)
    _, head, body = re.split(r"(<svg[^>]*>)", text, maxsplit=1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    body = re.sub(rf'<g id="{HOVER}([^"]*)">', r'<g class="says"><title>\1</title>', body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", body)
    body = re.sub(r'(?<= )(?:d|x|y|points)="[^"]*"', _rounded, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width = float(box[1].split()[2])
    return (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}" '
        f'style="max-width: {width * 4 / 3:.0f}px">{body}'
    )


def _rounded(found: re.Match[str]) -> str:
    return re.sub(rf"(\d\.\d{{{DIGITS}}})\d+", r"\1", found[0])

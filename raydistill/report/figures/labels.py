"""Names and values that fit into their place: broken at their joints, slanted, or shortened."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from raydistill.report.figures import style

LETTER, LINE = 0.66, 1.25  # of the font's size: the width of a letter on average, the height of a line
LONGEST = 18  # letters of a line
SLANT, SLANTED = 40.0, 24  # degrees, letters
JOINT = re.compile(r"(?<=_)(?=.)|(?<=, )|(?<= / )|(?<=\.)(?=[a-z])")


def shortened(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def letters(inches: float, size: float = style.SMALL) -> int:
    """Number of letters, in a font's size in points, that fit side by side."""
    return max(int(inches * 72 / (size * LETTER)), 1)


def broken(text: str, most: int) -> str:
    """Text in lines of at most `most` letters where its joints allow it: underscores, commas, slashes, dots.

    Lines that are longer still are shortened to `LONGEST`.
    """
    lines = [""]
    for piece in JOINT.split(text):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > most:
            lines.append("")
        lines[-1] += piece
    return "\n".join(shortened(line.rstrip()) for line in lines)


def beside(texts: Sequence[str], inches: float) -> tuple[list[str], float]:
    """Labels for places beside each other on an axis of this length, and their slant in degrees.

    In one line where they fit, else in two, else slanted and shortened.
    """
    most = letters(inches / max(len(texts), 1))
    for chosen in (list(texts), [broken(text, most) for text in texts]):
        lines = [text.split("\n") for text in chosen]
        if all(len(each) <= 2 and max(map(len, each)) <= most for each in lines):
            return chosen, 0.0
    return [shortened(text, SLANTED) for text in texts], SLANT


def depth(texts: Sequence[str], slant: float) -> float:
    """Inches that such labels need below an axis beyond those of one line."""
    if slant:
        return max(map(len, texts)) * style.SMALL * LETTER / 72 * math.sin(math.radians(slant))
    return max((text.count("\n") for text in texts), default=0) * style.SMALL * LINE / 72

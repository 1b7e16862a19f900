"""Style of figures: Okabe and Ito's colours, dark text on white, no global state of matplotlib's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, GREY, FAINT, RULE = "#1a1a1a", "#595959", "#b0b0b0", "#e3e3e3"
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)  # of several things beside each other; red last, the winner's own
SCORES, LIGHTEST = "cividis_r", 0.25  # light is low; where it begins, so that it is seen on white
WIDTH = 10.4  # inches
EDGE, GAP = 0.6, 0.2  # inches that an axis's labels, and two panels, take from it
TEXT, SMALL = 9.0, 8.0  # points
HOVER = "says:"  # before what an artist says, in the place of its id
WINNER: dict[str, Any] = {"color": RED, "zorder": 5}


def grid_of(
    rows: int, columns: int, height: float, *, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure with rows x columns tidy axes, in reading order.

    Args:
        rows, columns: number of axes.
        height, width: of the figure, in inches.
        **options: those of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for each in axes:
        tidy(each)
    return figure, axes


def inner(columns: int, width: float = WIDTH) -> float:
    """About how many inches wide each of some panels beside each other is."""
    return (width - EDGE) / columns - GAP


def tidy(axes: Axes) -> None:
    """Light rules behind, no box around."""
    axes.set_axisbelow(True)
    axes.grid(color=RULE, linewidth=0.8)
    axes.tick_params(which="both", colors=GREY, labelcolor=INK, labelsize=SMALL, length=3)
    axes.xaxis.label.set(size=TEXT, color=INK)
    axes.yaxis.label.set(size=TEXT, color=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def titled(axes: Axes, text: str) -> None:
    """A title above the left end."""
    axes.set_title(plain(text), loc="left", fontsize=TEXT, color=INK, fontweight="bold")


def legend(axes: Axes | Figure, handles: Iterable[Line2D], **options: Any) -> None:
    """A legend without a box; none without handles."""
    chosen = list(handles)
    if chosen:
        axes.legend(handles=chosen, frameon=False, fontsize=SMALL, labelcolor=INK, **options)


def mark(label: str, **options: Any) -> Line2D:
    """A point or a line for a legend."""
    return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 5.5, **options})


def empty(text: str, *, height: float = 1.4) -> Figure:
    """A figure that says why there is nothing to see."""
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    figure.add_axes((0, 0, 1, 1)).set_axis_off()  # a notebook shows no figure without axes
    figure.text(0.5, 0.5, plain(text), ha="center", va="center", fontsize=TEXT + 1, color=GREY, wrap=True)
    return figure


def say(artists: Iterable[Line2D], text: str) -> None:
    """Have points or lines say what they are where a pointer rests on them, in a page (`render.svg`)."""
    for artist in artists:
        artist.set_gid(HOVER + " ".join(text.split()))


def plain(text: str) -> str:
    """Text in which a dollar is a dollar, not a formula."""
    return text.replace("$", r"\$")

"""SimReg: the depth of the head (its table 1), and who sees which augmentation (its table 7)."""

from __future__ import annotations

from matplotlib.figure import Figure

from raydistill.report.load import Sweep
from raydistill.report.papers.panels import against, expect

DEPTH, VIEWS, RECIPE = "method.head_depth", "method.views", "method.student_recipe"
PUBLISHED = {DEPTH: 4, VIEWS: "same", RECIPE: "weak"}


def head(sweep: Sweep) -> Figure:
    """The score against the number of linear layers of the head, by the student's augmentation. Raises: ValueError."""
    expect(sweep, "simreg")
    return against(sweep, DEPTH, by=RECIPE, published=PUBLISHED)


def augmentation(sweep: Sweep) -> Figure:
    """The score against what the teacher sees, by the student's augmentation; and against that. Raises: ValueError."""
    expect(sweep, "simreg")
    return against(sweep, VIEWS, RECIPE, by=RECIPE, published=PUBLISHED)

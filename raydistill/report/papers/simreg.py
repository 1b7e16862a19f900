"""SimReg: the depth of the head (its table 1), and who sees which augmentation (its table 7)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from raydistill.report.load import SweepData
from raydistill.report.papers.panels import against
from raydistill.report.papers.trials import expect, used, with_setting

DEPTH, RECIPE = "method.head_depth", "method.student_recipe"
PUBLISHED = {DEPTH: 4}
ARMS = {"method.views": "same", "method.teacher_recipe": "weak", RECIPE: "weak"}  # with the method's defaults
ARM = "view of teacher / student"
TABLE = (
    "same, weak",
    "same, moco2",
    "different, weak / weak",
    "different, weak / moco2",
    "different, moco2 / moco2",
)


def head(sweep: SweepData) -> Figure:
    """The score against the number of linear layers of the head, by the student's augmentation. Raises: ValueError."""
    expect(sweep, "simreg")
    return against(sweep, DEPTH, by=RECIPE, published=PUBLISHED)


def augmentation(sweep: SweepData) -> Figure:
    """The score of each combination of views and augmentations that the search tried, in the order of table 7.

    The teacher has an augmentation of its own where the views are `different`, and it is named before the student's.
    Others than the table's come after it: `eval`, where the teacher sees the plain image, among them.
    Raises: ValueError for a sweep of another method.
    """
    expect(sweep, "simreg")
    tried = pd.DataFrame({path: used(sweep, path, default) for path, default in ARMS.items()})
    arms = pd.Series([_arm(*each) for each in tried.itertuples(index=False)], tried.index, dtype=object)
    order = [arm for arm in TABLE if arm in set(arms)]
    order += sorted(set(arms) - set(TABLE))
    return against(with_setting(sweep, ARM, arms, order), ARM, published={ARM: TABLE[0]})


def _arm(views: str, teacher: str, student: str) -> str:
    """same, weak; different, weak / moco2."""
    return f"{views}, {teacher} / {student}" if views == "different" else f"{views}, {student}"

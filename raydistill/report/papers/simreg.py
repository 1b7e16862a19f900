"""SimReg: the depth of the head (its table 1), and who sees which augmentation (its table 7)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from raydistill.report.load import SweepData
from raydistill.report.papers.panels import against
from raydistill.report.papers.trials import expect, used, with_setting

DEPTH, RECIPE = "method.head_depth", "method.student_recipe"
PUBLISHED = {DEPTH: 4}
AUGMENTATIONS = {"method.views": "same", "method.teacher_recipe": "weak", RECIPE: "weak"}  # with the method's defaults
AUGMENTATION = "view of teacher / student"
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
    tried = pd.DataFrame({path: used(sweep, path, default) for path, default in AUGMENTATIONS.items()})
    names = pd.Series([_augmentation(*each) for each in tried.itertuples(index=False)], tried.index, dtype=object)
    order = [name for name in TABLE if name in set(names)]
    order += sorted(set(names) - set(TABLE))
    return against(with_setting(sweep, AUGMENTATION, names, order), AUGMENTATION, published={AUGMENTATION: TABLE[0]})


def _augmentation(views: str, teacher: str, student: str) -> str:
    """same, weak; different, weak / moco2."""
    return f"{views}, {teacher} / {student}" if views == "different" else f"{views}, {student}"

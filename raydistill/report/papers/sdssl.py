"""SDSSL: the weight of the intermediate loss and its schedule (its table 6), and every layer (its figure 4)."""

from __future__ import annotations

from matplotlib.figure import Figure

from raydistill.report.comparison import baselines
from raydistill.report.figures import style
from raydistill.report.load import SweepData
from raydistill.report.papers.encoders import by_encoder, label_panel, line
from raydistill.report.papers.panels import HEIGHT, against
from raydistill.report.papers.trials import expect

ALPHA, SCHEDULE, BETA = "method.alpha", "method.alpha_schedule", "method.beta"
PUBLISHED = {ALPHA: 0.6, SCHEDULE: "cosine", BETA: 1.0}  # of table 6's ViT-S/32; the ViT-B/16 has an alpha of 0.8
METRICS = ("test_knn", "test_probe")


def schedules(sweep: SweepData) -> Figure:
    """The score against the largest alpha, by its schedule; the schedule; and the weight of the prediction loss.

    Raises: ValueError for a sweep of another method.
    """
    expect(sweep, "sdssl")
    return against(sweep, ALPHA, SCHEDULE, BETA, by=SCHEDULE, published=PUBLISHED)


def layers(sweep: SweepData) -> Figure:
    """Test scores after every block, of the winner and of its baseline.

    Raises: ValueError for a sweep of another method, and for one without a final or without scores of blocks.
    """
    expect(sweep, "sdssl")
    if not sweep.rows:
        raise ValueError(f"{sweep.name} has no final yet, so nothing was scored on the test split")
    figure, panels = style.grid_of(1, len(METRICS), HEIGHT)
    for panel, metric in zip(panels, METRICS, strict=True):
        rows = zip([sweep.rows[0], *baselines(sweep)[:1]], (style.RED, style.BLUE), strict=False)
        found = {row.name: (by_encoder(sweep, row, metric, "block"), color) for row, color in rows}
        for name, (scores, color) in found.items():
            line(panel, scores, color, f"{name}, {len(scores)} seeds")
        deepest = max(int(scores.columns.max()) for scores, _ in found.values())
        label_panel(panel, metric, "block", {number: str(number) for number in range(1, deepest + 1)})
    return figure

"""SSSD: its four exits and their ensemble (its table 1), the number of clusters, and alpha."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from raydistill.report.comparison import baselines
from raydistill.report.figures import style
from raydistill.report.formatting import factor
from raydistill.report.load import SweepData
from raydistill.report.papers.encoders import by_encoder, label_panel, line
from raydistill.report.papers.panels import HEIGHT, against
from raydistill.report.papers.trials import expect

CLUSTERS, ALPHA, LAMBDA = "method.clusters", "method.alpha", "method.lambda_features"
PUBLISHED = {ALPHA: 0.3, LAMBDA: 0.003}
PROBE, KNN = "test_probe", "test_knn"


def exits(sweep: SweepData) -> Figure:
    """The winner's test scores at every exit; of the probes also the ensemble, the mean of their logits.

    Broken: its baseline, which has one exit. Raises: ValueError for a sweep of another method, and for one without a
    final or without scores of exits.
    """
    expect(sweep, "sssd")
    if not sweep.rows:
        raise ValueError(f"{sweep.name} has no final yet, so nothing was scored on the test split")
    figure, panels = style.grid_of(1, 2, HEIGHT)
    winner = sweep.rows[0]
    for panel, metric in zip(panels, (PROBE, KNN), strict=True):
        scores = by_encoder(sweep, winner, metric, "exit")
        ticks = {int(number): str(number) for number in scores.columns}
        line(panel, scores, style.RED, f"{winner.name}, {len(scores)} seeds")
        together = pd.DataFrame(winner.scores).filter([f"{metric}_ensemble"]) * factor(metric)
        if not together.empty:
            place = max(ticks) + 1
            line(panel, together.set_axis([place], axis=1), style.PURPLE, "ensemble of the exits")
            ticks[place] = "all"
        for row in baselines(sweep)[:1]:
            found = row.mean(metric)
            if found is not None:
                panel.axhline(found[0] * factor(metric), color=style.GREY, linestyle="--", linewidth=1, label=row.name)
        label_panel(panel, metric, "exit", ticks)
    return figure


def clusters(sweep: SweepData) -> Figure:
    """The score against the number of clusters, alpha and the weight of the feature distances. Raises: ValueError."""
    expect(sweep, "sssd")
    return against(sweep, CLUSTERS, ALPHA, LAMBDA, published=PUBLISHED)

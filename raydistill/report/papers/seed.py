"""SEED: the length of the queue (its figure 7) and the temperatures (its table 5)."""

from __future__ import annotations

from matplotlib.figure import Figure

from raydistill.report.load import SweepData
from raydistill.report.papers.panels import against
from raydistill.report.papers.trials import expect

QUEUE, TAU_T, TAU_S = "method.queue_size", "method.tau_t", "method.tau_s"
PUBLISHED = {QUEUE: 65536, TAU_T: 0.01, TAU_S: 0.2}


def queue(sweep: SweepData) -> Figure:
    """The score against the length of the queue. Raises: ValueError for a sweep of another method."""
    expect(sweep, "seed")
    return against(sweep, QUEUE, published=PUBLISHED)


def temperatures(sweep: SweepData) -> Figure:
    """The score against the teacher's temperature, by the student's; and against the student's. Raises: ValueError."""
    expect(sweep, "seed")
    return against(sweep, TAU_T, TAU_S, by=TAU_S, published=PUBLISHED)

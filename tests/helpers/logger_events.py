"""Short names for the events of a logger, for tests that write down many."""

from raydistill.tracking.loggers.base import FinalTable, TrialEnd, TrialMetrics, TrialScores, TrialStart

KINDS = {"start": TrialStart, "log": TrialMetrics, "score": TrialScores, "table": FinalTable, "end": TrialEnd}
NAMES = {kind: name for name, kind in KINDS.items()}


def event(name, *values):
    """Make an event of its short name and its fields."""
    return KINDS[name](*values)


def spelt(made):
    """Return the short name of an event, and its fields."""
    return (NAMES[type(made)], *vars(made).values())

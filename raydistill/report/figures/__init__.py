"""Figures of a sweep. Each is a `matplotlib.figure.Figure` of its own; none touches pyplot."""

from raydistill.report.figures.finals import comparison
from raydistill.report.figures.parallel import parallel_coordinates
from raydistill.report.figures.searched import importance, slices
from raydistill.report.figures.trained import budget, learning_curves

__all__ = ["budget", "comparison", "importance", "learning_curves", "parallel_coordinates", "slices"]

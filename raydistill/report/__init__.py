"""Tables and figures out of MLflow: what a sweep found, by how much, and what it cost."""

from raydistill.report.load import Sweep, load, sweeps

__all__ = ["Sweep", "load", "sweeps"]

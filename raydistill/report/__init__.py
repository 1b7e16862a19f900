"""Tables and figures out of MLflow: what a sweep found, by how much, and what it cost."""

from raydistill.report.load import SweepData, load, sweeps

__all__ = ["SweepData", "load", "sweeps"]
